from .folder import save_model as save_model
from .hub import push_to_hub as push_to_hub
from .load import as_encoder as as_encoder
from .load import default_device as default_device
from .load import load_model as load_model
from .registry import ModelInfo as ModelInfo
from .registry import list_models as list_models
from .registry import model_info as model_info
