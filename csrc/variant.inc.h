/* All kernels for vectors of VECTOR_BYTES, in both types; SUFFIX(x) gives their names. */
#define REAL float
#define NAME(x) SUFFIX(x##_f32)
#include "all.inc.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(x) SUFFIX(x##_f64)
#include "all.inc.h"
#undef REAL
#undef NAME
