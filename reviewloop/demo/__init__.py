"""The bundled reviews and adapter, and the guided run over them."""
