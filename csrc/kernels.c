/* The functions that the package calls, and the choice of a variant for the processor.
 *
 * Nothing here knows Python or torch: plain C with the vector types of GCC and Clang.
 * `dtype` is 0 for float and 1 for double.  A function returns 0, or 1 where memory is short.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define ALIGNMENT 64
#define API __attribute__((visibility("default")))

#if defined(__x86_64__)
#define VARIANTS 3
#else
#define VARIANTS 1
#endif

#define VECTOR_BYTES 16
#define SUFFIX(x) x##_plain
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX

#if VARIANTS > 1

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VECTOR_BYTES 32
#define SUFFIX(x) x##_avx2
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
#define VECTOR_BYTES 64
#define SUFFIX(x) x##_avx512
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

static const kernels *const tables[VARIANTS][2] = {
    {&table_f32_plain, &table_f64_plain},
#if VARIANTS > 1
    {&table_f32_avx2, &table_f64_avx2},
    {&table_f32_avx512, &table_f64_avx512},
#endif
};

static int variant = 0;

/* The best variant that this processor can run. */
API int kernels_best_variant(void)
{
#if VARIANTS > 1
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    return __builtin_cpu_supports("avx512f") ? 2 : 1;
#else
    return 0;
#endif
}

/* Choose a variant, or the best one where that is more than the processor can. */
API int kernels_use_variant(int wanted)
{
    int best = kernels_best_variant();
    variant = wanted < 0 || wanted > best ? best : wanted;
    return variant;
}

/* The kernels for so many channels: no wider than they can fill. */
static const kernels *kernels_for(int dtype, int64_t channels)
{
    int best = variant;
    while (best > 0 && channels <= tables[best - 1][dtype]->lanes)
        best--;
    return tables[best][dtype];
}

/* Memory that a thread keeps from call to call: what was just used is in its cache still. */
enum { TASK, JOB, WEIGHTS, KINDS };
typedef struct {
    void *memory[KINDS];
    size_t size[KINDS];
} keepsake;

static pthread_key_t keepsakes;
static pthread_once_t keepsakes_made = PTHREAD_ONCE_INIT;

static void drop(void *data)
{
    for (int kind = 0; kind < KINDS; kind++)
        free(((keepsake *)data)->memory[kind]);
    free(data);
}

static void make_keepsakes(void) { pthread_key_create(&keepsakes, drop); }

/* Some bytes of a kind, until the next ones of that kind in this thread; or NULL. */
static void *borrow(int kind, size_t size)
{
    pthread_once(&keepsakes_made, make_keepsakes);
    keepsake *own = pthread_getspecific(keepsakes);
    if (!own) {
        own = calloc(1, sizeof(keepsake));
        if (!own || pthread_setspecific(keepsakes, own)) {
            free(own);
            return NULL;
        }
    }
    if (own->size[kind] < size || !own->memory[kind]) {
        free(own->memory[kind]);
        own->memory[kind] = aligned_alloc(ALIGNMENT, (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
        own->size[kind] = own->memory[kind] ? size : 0;
    }
    return own->memory[kind];
}

/* Run tasks 0 to count - 1; what each computes does not depend on who runs it. */
static int run_tasks(task run, const void *job, int64_t count, size_t scratch_size, int threads)
{
    int failed = 0;
#if defined(_OPENMP)
    if (threads > 1 && count > 1) {
#pragma omp parallel num_threads(threads) reduction(| : failed)
        {
            void *scratch = scratch_size ? borrow(TASK, scratch_size) : NULL;
            failed |= scratch_size && !scratch;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count; i++)
                if (!failed)
                    run(job, i, scratch);
        }
        return failed;
    }
#else
    (void)threads;
#endif
    void *scratch = scratch_size ? borrow(TASK, scratch_size) : NULL;
    if (scratch_size && !scratch)
        return 1;
    for (int64_t i = 0; i < count; i++)
        run(job, i, scratch);
    return failed;
}

#include "convs.inc.h"
#include "norms.inc.h"
#include "sums.inc.h"
#include "edges.inc.h"

/* Means over 3x3 pixels at stride 1, of those inside of the map; or the gradient of x. */
API int kernels_average_pool(int dtype, int threads, int64_t batch, int64_t height,
                             int64_t width, int64_t channels, int transposed, const void *x,
                             void *out)
{
    const kernels *use = kernels_for(dtype, channels);
    size_t size = (size_t)(width * channels) * (dtype ? sizeof(double) : sizeof(float));
    void *zeros = borrow(JOB, size);
    if (!zeros)
        return 1;
    memset(zeros, 0, size);
    pool_job job = {height, width, channels, transposed, x, zeros, out};
    run_tasks(use->pool_row, &job, batch * height, 0, threads);
    return 0;
}
