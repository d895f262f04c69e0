"""The bundled reviews and adapter, and the demo that uses them."""
