from . import metrics as metrics
from .datasets import Badja as Badja
from .datasets import Dataset as Dataset
from .datasets import Davis as Davis
from .datasets import Jhmdb as Jhmdb
from .datasets import Vip as Vip
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
