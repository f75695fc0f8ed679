/* All kernels for one type of number and one width of vectors, and the table of them. */
#include "vectors.inc.h"

#include "batch_norm.inc.h"
#include "depthwise.inc.h"
#include "matrices.inc.h"
#include "separable.inc.h"
#include "weighted_sum.inc.h"
#include "average_pool.inc.h"
#include "winograd.inc.h"
#include "padding.inc.h"
#include "mixed_edge.inc.h"

static const kernels NAME(table) = {
    .lanes = VECTOR_BYTES / sizeof(REAL),
    .conv_scratch = NAME(conv_scratch),
    .conv_forward = NAME(conv_forward),
    .conv_input = NAME(conv_input),
    .conv_weight = NAME(conv_weight),
    .matrix_pack = NAME(matrix_pack),
    .separable_scratch = NAME(separable_scratch),
    .separable_forward = NAME(separable_forward),
    .separable_backward = NAME(separable_backward),
    .parts_sum = NAME(parts_sum),
    .norm_moments = NAME(norm_moments),
    .norm_apply = NAME(norm_apply),
    .norm_sums = NAME(norm_sums),
    .norm_input = NAME(norm_input),
    .sum_apply = NAME(sum_apply),
    .sum_dots = NAME(sum_dots),
    .sum_input = NAME(sum_input),
    .pool_row = NAME(pool_row),
    .edge_scratch = NAME(edge_scratch),
    .edge_maps = NAME(edge_maps),
    .edge_sum = NAME(edge_sum),
    .edge_dots = NAME(edge_dots),
    .edge_input = NAME(edge_input),
    .packed_size = NAME(packed_size),
    .edge_pack = NAME(edge_pack),
    .edge_unpack = NAME(edge_unpack),
};

#undef AT
#undef VEC
#undef LOOSE
#undef MASK
#undef LANES
#undef TILE
#undef INLINE
#undef FIXED
#undef LOAD
#undef STORE
