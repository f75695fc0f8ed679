/* All kernels for vectors of VECTOR_BYTES, in both types; SUFFIX(x) gives their names. */
#define REAL float
#define NAME(x) SUFFIX(x##_f32)
#include "depthwise.inc.h"
#include "batch_norm.inc.h"
#include "weighted_sum.inc.h"
#include "average_pool.inc.h"
#include "table.inc.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(x) SUFFIX(x##_f64)
#include "depthwise.inc.h"
#include "batch_norm.inc.h"
#include "weighted_sum.inc.h"
#include "average_pool.inc.h"
#include "table.inc.h"
#undef REAL
#undef NAME
