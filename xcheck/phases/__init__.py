"""What is asked of both sides, phase by phase, and which verdict follows; `phase_list` has them in order."""

from .phase_list import AVAILABLE as AVAILABLE
from .phase_list import NEEDS as NEEDS
from .phase_list import ON_REQUEST as ON_REQUEST
from .phase_list import PHASES as PHASES
from .phase_list import STEP_PHASES as STEP_PHASES
from .phase_list import chosen as chosen
