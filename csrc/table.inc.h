/* The table of all kernels, for one type of number and one width of vectors; comes last. */
#undef INLINE
#undef AT
#undef LOAD
#undef STORE
#undef VEC
#undef LOOSE
#undef LANES
#undef TILE

static const kernels NAME(table) = {
    .lanes = VECTOR_BYTES / sizeof(REAL),
    .conv_scratch = NAME(conv_scratch),
    .conv_forward = NAME(conv_forward),
    .conv_input = NAME(conv_input),
    .conv_weight = NAME(conv_weight),
    .norm_moments = NAME(norm_moments),
    .norm_apply = NAME(norm_apply),
    .norm_sums = NAME(norm_sums),
    .norm_input = NAME(norm_input),
    .sum_apply = NAME(sum_apply),
    .sum_dots = NAME(sum_dots),
    .sum_input = NAME(sum_input),
    .pool_row = NAME(pool_row),
};
