"""The engines that compute convolutions and pools, gemm (NumPy) and loops (the definition), and the choice of one."""

from backlit.engines.choice import Choice, engine_for, explain_choice, names, use
from backlit.engines.engine import Engine, Plan
from backlit.engines.module import MemoryFigures, empty_cache, memory_figures
from backlit.engines.problem import Problem, remembered
from backlit.engines.threads import get_num_threads, set_num_threads

__all__ = [
    "Choice",
    "Engine",
    "MemoryFigures",
    "Plan",
    "Problem",
    "empty_cache",
    "engine_for",
    "explain_choice",
    "get_num_threads",
    "memory_figures",
    "names",
    "remembered",
    "set_num_threads",
    "use",
]
