"""What programs can ask of the API itself."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from console.access import Viewer
from reviews.account import Role

router = APIRouter(tags=["about"])


class ApiActor(BaseModel):
    """Who sends this request, and what it may do."""

    name: str
    role: Role


@router.get("/me")
async def read_me(who: Viewer) -> ApiActor:
    """Whether a token works, and what for."""
    return ApiActor(name=who.name, role=who.role)


@router.get("/openapi.json", include_in_schema=False)
def read_openapi(request: Request, _who: Viewer) -> Response:
    """The description of the API."""
    return JSONResponse(request.app.state.describe_api())
