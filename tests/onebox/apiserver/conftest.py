from tests.onebox_api import api, api_of_module, shared_api

__all__ = ["api", "api_of_module", "shared_api"]
