// cuRAND as far as candle's device goes when it opens: a generator is made, seeded and put on a stream. It draws nothing.
#include "host.h"

enum { GENERATOR = 0x47656e65, NOT_INITIALIZED = 101, TYPE_ERROR = 103, ALLOCATION_FAILED = 102 };
struct generator {
    uint32_t magic;
};

int curandGetVersion(int *version) { return version ? (*version = 10400, 0) : TYPE_ERROR; }
int curandCreateGenerator(struct generator **out, int kind) {
    if (!out || kind < 100) return TYPE_ERROR;
    *out = malloc(sizeof **out);
    if (!*out) return ALLOCATION_FAILED;
    (*out)->magic = GENERATOR;
    return 0;
}
static int known(const struct generator *generator) { return generator && generator->magic == GENERATOR ? 0 : NOT_INITIALIZED; }
int curandDestroyGenerator(struct generator *generator) {
    if (known(generator)) return NOT_INITIALIZED;
    generator->magic = DEAD;
    free(generator);
    return 0;
}
int curandSetPseudoRandomGeneratorSeed(struct generator *generator, unsigned long long seed) {
    (void)seed;
    return known(generator);
}
int curandSetGeneratorOffset(struct generator *generator, unsigned long long offset) {
    (void)offset;
    return known(generator);
}
int curandSetStream(struct generator *generator, struct stream *stream) {
    (void)stream;
    return known(generator);
}
