from tests.onebox_api import api

__all__ = ["api"]
