/* Which instructions to use, and threads that last as long as a call. */

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "search.h"

/* ---- instruction sets -------------------------------------------------------------------- */

extern const Lanes lanes_plain;
#ifdef HAVE_avx512vnni
extern const Lanes lanes_avx512vnni;
#endif
#ifdef HAVE_avx512
extern const Lanes lanes_avx512;
#endif
#ifdef HAVE_avx2
extern const Lanes lanes_avx2;
#endif
#ifdef HAVE_dotprod
extern const Lanes lanes_dotprod;
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

/* The sets of instructions that this processor has, best first; NULL after the last. */
const Lanes *lanes_at(int64_t number)
{
    const Lanes *known[5] = {0};
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef HAVE_avx512vnni
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        known[count++] = &lanes_avx512vnni;
#endif
#ifdef HAVE_avx512
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        known[count++] = &lanes_avx512;
#endif
#ifdef HAVE_avx2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        known[count++] = &lanes_avx2;
#endif
#endif
#ifdef HAVE_dotprod
#if defined(__APPLE__)
    known[count++] = &lanes_dotprod; /* every Apple processor of this kind has it */
#elif defined(__linux__)
    if (getauxval(AT_HWCAP) & (1UL << 20)) /* HWCAP_ASIMDDP */
        known[count++] = &lanes_dotprod;
#endif
#endif
    known[count++] = &lanes_plain;
    return number >= 0 && number < count ? known[number] : NULL;
}

PUBLIC const char *recollect_lanes(int64_t number)
{
    const Lanes *lanes = lanes_at(number);
    return lanes ? lanes->name : NULL;
}

PUBLIC int64_t recollect_virtual(int64_t number) { return lanes_at(number)->virtual_queries; }

PUBLIC const char *recollect_source(void) { return SOURCE; }

/* ---- threads ----------------------------------------------------------------------------- */

typedef struct {
    void (*work)(void *shared, int64_t thread);
    void *shared;
    int64_t thread;
} Share;

static void *enter(void *at)
{
    Share *share = at;
#if defined(__x86_64__)
    /* Numbers below the normal range count here, whatever the caller has set. */
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80);
#endif
    share->work(share->shared, share->thread);
#if defined(__x86_64__)
    _mm_setcsr(before);
#endif
    return NULL;
}

/* Run work on several threads; it must be done when only the first of them ran. Threads are made
   for each call: that takes some ten microseconds, and nothing is left over, also after a fork. */
void spread(void (*work)(void *, int64_t), void *shared, int64_t threads)
{
    pthread_t others[MOST_THREADS];
    Share shares[MOST_THREADS];
    int64_t started = 1;
    sigset_t every, before;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads > 1) {
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        for (; started < threads; started++) {
            shares[started] = (Share){work, shared, started};
            if (pthread_create(&others[started], NULL, enter, &shares[started])) break;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    shares[0] = (Share){work, shared, 0};
    enter(&shares[0]);
    for (int64_t thread = 1; thread < started; thread++) pthread_join(others[thread], NULL);
}
