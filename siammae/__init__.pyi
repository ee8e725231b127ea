from . import evaluation as evaluation
from . import features as features
from . import labels as labels
from . import models as models
from . import ops as ops
from . import propagation as propagation
from . import synthetic as synthetic
from . import training as training
from . import video as video
from . import visualize as visualize
from .encoder import Encoder as Encoder
from .errors import VideoError as VideoError
from .errors import WeightsError as WeightsError
from .features import extract_features as extract_features
from .geometry import Geometry as Geometry
from .models import ModelInfo as ModelInfo
from .models import list_models as list_models
from .models import load_model as load_model
from .models import model_info as model_info
from .models import push_to_hub as push_to_hub
from .models import save_model as save_model
from .propagation import LabelPropagator as LabelPropagator
from .propagation import PropagationConfig as PropagationConfig
from .propagation import propagate_keypoints as propagate_keypoints
from .propagation import propagate_labels as propagate_labels
from .video import read_frames as read_frames

__version__: str
