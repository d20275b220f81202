"""The engines that compute convolutions and pools, and the choice of one: native (C++), gemm (NumPy), loops."""

from backlit.engines.choice import Choice, engine_for, explain_choice, names, offers, use
from backlit.engines.engine import Engine, Plan
from backlit.engines.module import MemoryFigures, empty_cache, memory_figures
from backlit.engines.problem import Problem, remembered
from backlit.engines.processor import Processor, processor
from backlit.engines.threads import get_num_threads, set_num_threads

__all__ = [
    "Choice",
    "Engine",
    "MemoryFigures",
    "Plan",
    "Problem",
    "Processor",
    "empty_cache",
    "engine_for",
    "explain_choice",
    "get_num_threads",
    "memory_figures",
    "names",
    "offers",
    "processor",
    "remembered",
    "set_num_threads",
    "use",
]
