// AVX-512: F, VL, BW and DQ.
#define BACKLIT_ISA isa_avx512
#define BACKLIT_NAME "avx512"
#define BACKLIT_BYTES 64
#define BACKLIT_REGISTERS 32
#include "isa.inl"
