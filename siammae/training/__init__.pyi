from .config import TrainConfig as TrainConfig
from .config import load_config as load_config
from .folder import describe_run as describe_run
from .folder import export as export
from .folder import load_run as load_run
from .folder import load_siammae as load_siammae
from .loop import train as train
from .model import SiamMAE as SiamMAE
