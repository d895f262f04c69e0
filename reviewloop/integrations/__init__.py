"""Label Studio and MLflow, by their HTTP interfaces."""
