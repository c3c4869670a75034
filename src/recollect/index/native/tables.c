/* Lookup tables: the rows nearest to a key, flat or down a tree of clusters, and whole answers.

   Keys are words of bits, their numbers written in unary, so that the distance of two keys is the
   sum over words of price * differing bits: whole numbers, the same here and in NumPy
   (../../heads/lookup/words.py). Ties go to the lower row. Nothing of Python is in here. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) || defined(__i386__)
#define HAVE_POPCNT 1
#define POPCNT __attribute__((target("popcnt")))
#else
#define HAVE_POPCNT 0
#define POPCNT
#endif

enum { MOST_CELLS = 64, MOST_LEVELS = 255 };

/* Rows of one part of a table. With leaf_rows, keys lie in the order of the leaves. */
typedef struct {
    int64_t words, rows;
    const int64_t *prices;             /* [words]: cost of a bit that differs */
    const uint64_t *keys;              /* [rows][words] */
    const uint64_t *centers;           /* [centers][words] */
    const int64_t *node_start;         /* [nodes + 1]: centers of a node */
    const int64_t *child;              /* [centers]: node below, or -1 for a leaf */
    const int64_t *leaf_start;         /* [centers + 1] */
    const int64_t *leaf_rows;          /* [rows], or NULL: compare with every row */
    const int64_t *pivots;             /* [centers]: row whose key a center is, or NULL */
    const int64_t *reach;              /* [centers]: by how much nearer a way counts than it is */
    int64_t beam;                      /* ways down that are kept at every level */
    int64_t slack;                     /* > 0: hundredths of the nearest; farther ways are left */
} Part;

typedef struct {
    int64_t side, cells, patches, steps, levels, per_step;
    int64_t front, words;              /* words of state and place; of a whole key */
    const int64_t *cell_sides;         /* [patches] */
    const int64_t *limits;             /* [patches][levels]: sums from which a code is reached */
    const Part *parts;                 /* [parts] */
    const int64_t *starts;             /* [parts]: first row of each */
    const uint64_t *states;            /* [rows][front]: next state and place, as in a key */
    const uint8_t *places;             /* [rows][2]: next column and row */
    const uint64_t *begin;             /* [front]: state of the first step */
    int64_t column, row;               /* place of the first step */
    const int64_t *answers;            /* [rows]: class of each row */
    int64_t classes, vote;             /* how many there are; how rows vote, of Vote below */
} Replay;

/* Rows of the last step by rank, those of every step, or of every step by distance. */
enum Vote { LAST, ALL, BY_DISTANCE };

typedef struct { int64_t distance, number; } Way;

/* A way down: it is kept by what it counts, which is its distance less the reach of its center. */
typedef struct { int64_t counts, distance, number; } Path;

/* What one search needs besides the table; grown when a step asks for more. */
typedef struct { Path *ways; int64_t room; } Scratch;

INLINE int64_t apart(const int64_t *prices, const uint64_t *a, const uint64_t *b, int64_t words)
{
    int64_t total = 0;
    for (int64_t word = 0; word < words; word++)
        total += prices[word] * __builtin_popcountll(a[word] ^ b[word]);
    return total;
}

INLINE int before(Way a, Way b)
{
    return a.distance < b.distance || (a.distance == b.distance && a.number < b.number);
}

/* Keep the nearest few rows, nearest first. */
INLINE int64_t keep(Way *kept, int64_t count, int64_t most, Way one)
{
    if (count == most && !before(one, kept[count - 1])) return count;
    int64_t at = count < most ? count : most - 1;
    for (; at > 0 && before(one, kept[at - 1]); at--) kept[at] = kept[at - 1];
    kept[at] = one;
    return count < most ? count + 1 : count;
}

INLINE int64_t scan(const Part *part, const uint64_t *query, int64_t begin, int64_t end,
                    int64_t known, Way *kept, int64_t count, int64_t k, int64_t words)
{
    for (int64_t at = begin; at < end; at++) {
        int64_t row = part->leaf_rows ? part->leaf_rows[at] : at;
        if (row == known) continue;
        Way one = {apart(part->prices, query, part->keys + at * words, words), row};
        count = keep(kept, count, k, one);
    }
    return count;
}

/* Keep the best ways, best first; ties to the way that came first. */
INLINE int64_t open_way(Path *ways, int64_t total, int64_t beam, Path one)
{
    int64_t place = total < beam ? total : beam - 1;
    if (total == beam && one.counts >= ways[place].counts) return total;
    for (; place > 0 && ways[place - 1].counts > one.counts; place--)
        ways[place] = ways[place - 1];
    ways[place] = one;
    return total < beam ? total + 1 : total;
}

/* Give up ways that count as farther than so many hundredths of the first. */
INLINE int64_t near_ways(Path *ways, int64_t total, int64_t slack)
{
    int64_t left = 1, limit = ways[0].counts > 0 ? ways[0].counts * slack : 0;
    for (int64_t i = 1; i < total; i++)
        if (ways[i].counts <= 0 || ways[i].counts * 100 <= limit) ways[left++] = ways[i];
    return left;
}

/* Keep so many ways at every level, then scan the leaves that were reached. Ties go to the way
   that came first: leaves reached before, then centers in the order of the ways above them.
   Centers that are rows are found like rows; one that is the center above, too, is not compared
   again. */
INLINE int64_t by_beam(const Part *part, const uint64_t *query, Way *kept, int64_t k,
                       int64_t *compared, Scratch *scratch, int64_t words)
{
    int64_t beam = part->beam, held = 1, count = 0;
    if (scratch->room < 2 * beam) {
        Path *grown = realloc(scratch->ways, (size_t)(2 * beam) * sizeof *grown);
        if (!grown) return -1;
        scratch->ways = grown;
        scratch->room = 2 * beam;
    }
    Path *ways = scratch->ways, *next = scratch->ways + beam;
    ways[0] = (Path){0, 0, -1};
    for (int more = 1; more;) {
        int64_t total = 0;
        more = 0;
        for (int64_t i = 0; i < held; i++)
            if (ways[i].number >= 0 && part->child[ways[i].number] < 0) next[total++] = ways[i];
        for (int64_t i = 0; i < held; i++) {
            int64_t node = ways[i].number < 0 ? 0 : part->child[ways[i].number];
            if (node < 0) continue;
            more = 1;
            int64_t known = part->pivots && ways[i].number >= 0 ? part->pivots[ways[i].number] : -1;
            for (int64_t at = part->node_start[node]; at < part->node_start[node + 1]; at++) {
                Path one = {0, ways[i].distance, at};
                if (!part->pivots || part->pivots[at] != known) {
                    one.distance = apart(part->prices, query, part->centers + at * words, words);
                    ++*compared;
                    if (part->pivots)
                        count = keep(kept, count, k, (Way){one.distance, part->pivots[at]});
                }
                one.counts = one.distance - part->reach[at];
                total = open_way(next, total, beam, one);
            }
        }
        if (part->slack) total = near_ways(next, total, part->slack);
        if (more) {
            memcpy(ways, next, (size_t)total * sizeof *ways);
            held = total;
        }
    }
    for (int64_t i = 0; i < held; i++) {
        int64_t begin = part->leaf_start[ways[i].number], end = part->leaf_start[ways[i].number + 1];
        int64_t known = part->pivots ? part->pivots[ways[i].number] : -1;
        count = scan(part, query, begin, end, known, kept, count, k, words);
        *compared += end - begin - (part->pivots != NULL);
    }
    return count;
}

INLINE int64_t search_wide(const Part *part, const uint64_t *query, Way *kept, int64_t k,
                           int64_t *compared, Scratch *scratch, int64_t words)
{
    if (!part->leaf_rows) {
        *compared += part->rows;
        return scan(part, query, 0, part->rows, -1, kept, 0, k, words);
    }
    return by_beam(part, query, kept, k, compared, scratch, words);
}

/* Five words is the published layout: its loops are unrolled. */
INLINE int64_t search(const Part *part, const uint64_t *query, Way *kept, int64_t k,
                      int64_t *compared, Scratch *scratch)
{
    if (part->words == 5) return search_wide(part, query, kept, k, compared, scratch, 5);
    return search_wide(part, query, kept, k, compared, scratch, part->words);
}

INLINE int write_found(const Way *kept, int64_t found, int64_t k, int64_t first, int64_t *rows,
                       int64_t *distances)
{
    if (found < 0) return -1;
    for (int64_t i = 0; i < k; i++) {
        rows[i] = i < found ? kept[i].number + first : -1;
        distances[i] = i < found ? kept[i].distance : -1;
    }
    return 0;
}

INLINE int nearest(const Part *part, const uint64_t *queries, int64_t count, int64_t k,
                   int64_t *rows, int64_t *distances, int64_t *compared, Way *kept,
                   Scratch *scratch)
{
    for (int64_t query = 0; query < count; query++) {
        compared[query] = 0;
        int64_t found = search(part, queries + query * part->words, kept, k, compared + query,
                               scratch);
        if (write_found(kept, found, k, 0, rows + query * k, distances + query * k)) return -1;
    }
    return 0;
}

/* Write what is seen around a place as the last words of a key: code c is its first c bits set. */
INLINE void glimpse(const Replay *all, const int32_t *sums, int64_t column, int64_t row,
                    uint64_t *key)
{
    int64_t bit = 0, side = all->side, wide = side + 1, at[2][MOST_CELLS + 1];
    memset(key, 0, (size_t)(all->words - all->front) * sizeof *key);
    for (int64_t patch = 0; patch < all->patches; patch++) {
        int64_t cell = all->cell_sides[patch], half = cell * all->cells / 2;
        const int64_t *limits = all->limits + patch * all->levels;
        for (int64_t edge = 0; edge <= all->cells; edge++) {
            int64_t x = column - half + edge * cell, y = row - half + edge * cell;
            at[0][edge] = x < 0 ? 0 : x > side ? side : x;
            at[1][edge] = (y < 0 ? 0 : y > side ? side : y) * wide;
        }
        for (int64_t i = 0; i < all->cells; i++)
            for (int64_t j = 0; j < all->cells; j++) {
                const int32_t *top = sums + at[1][i], *bottom = sums + at[1][i + 1];
                int64_t sum = (int64_t)bottom[at[0][j + 1]] - bottom[at[0][j]]
                    - top[at[0][j + 1]] + top[at[0][j]];
                for (int64_t level = 0; level < all->levels; level++, bit++)
                    key[bit >> 6] |= (uint64_t)(sum >= limits[level]) << (bit & 63);
            }
    }
}

INLINE void add_up(const uint8_t *image, int64_t side, int32_t *sums)
{
    memset(sums, 0, (size_t)(side + 1) * sizeof *sums);
    for (int64_t row = 0; row < side; row++) {
        const int32_t *above = sums + row * (side + 1);
        int32_t *here = sums + (row + 1) * (side + 1), line = 0;
        here[0] = 0;
        for (int64_t column = 0; column < side; column++) {
            line += image[row * side + column];
            here[column + 1] = above[column + 1] + line;
        }
    }
}

/* What whole answers need besides the table. */
typedef struct { Way *kept; Scratch *scratch; uint64_t *key; int32_t *sums; } Room;

/* Look one image up step by step: rows and distances [steps][k], compared [steps]. */
INLINE int replay_one(const Replay *all, const uint8_t *image, int64_t k, int64_t *rows,
                      int64_t *distances, int64_t *compared, Room room)
{
    int64_t front = all->front, column = all->column, row = all->row;
    add_up(image, all->side, room.sums);
    memcpy(room.key, all->begin, (size_t)front * sizeof *room.key);
    for (int64_t step = 0; step < all->steps; step++) {
        int64_t number = all->per_step ? step : 0;
        const Part *part = all->parts + number;
        compared[step] = 0;
        glimpse(all, room.sums, column, row, room.key + front);
        int64_t found = search(part, room.key, room.kept, k, compared + step, room.scratch);
        if (write_found(room.kept, found, k, all->starts[number], rows + step * k,
                        distances + step * k)) return -1;
        int64_t taken = rows[step * k];
        memcpy(room.key, all->states + taken * front, (size_t)front * sizeof *room.key);
        column = all->places[2 * taken];
        row = all->places[2 * taken + 1];
    }
    return 0;
}

INLINE int replay(const Replay *all, const uint8_t *images, int64_t count, int64_t k,
                  int64_t *rows, int64_t *distances, int64_t *compared, Room room)
{
    for (int64_t image = 0; image < count; image++) {
        int64_t place = image * all->steps;
        if (replay_one(all, images + image * all->side * all->side, k, rows + place * k,
                       distances + place * k, compared + place, room)) return -1;
    }
    return 0;
}

/* Add the votes of the rows of one step; seen[class] is the last step that heard the class. */
INLINE void add_votes(const Replay *all, const int64_t *rows, const int64_t *distances, int64_t k,
                      int64_t mark, int64_t *seen, int64_t *votes)
{
    int64_t count = k;
    while (count > 0 && rows[count - 1] < 0) count--;
    for (int64_t i = 0; i < count; i++) {
        int64_t named = all->answers[rows[i]];
        if (all->vote != BY_DISTANCE) votes[named] += ((int64_t)1 << 20) / (2 + i);
        else if (seen[named] != mark) votes[named] += distances[count - 1] + 1 - distances[i];
        seen[named] = mark;
    }
}

/* Answer images: votes [count][classes]. */
INLINE int answer(const Replay *all, const uint8_t *images, int64_t count, int64_t k,
                  int64_t *rows, int64_t *distances, int64_t *compared, int64_t *seen,
                  int64_t *votes, Room room)
{
    int64_t first = all->vote == LAST ? all->steps - 1 : 0;
    for (int64_t image = 0; image < count; image++) {
        int64_t *own = votes + image * all->classes;
        memset(own, 0, (size_t)all->classes * sizeof *own);
        if (replay_one(all, images + image * all->side * all->side, k, rows, distances, compared,
                       room)) return -1;
        for (int64_t step = first; step < all->steps; step++)
            add_votes(all, rows + step * k, distances + step * k, k,
                      image * all->steps + step + 1, seen, own);
    }
    return 0;
}

#define NEAREST (const Part *part, const uint64_t *queries, int64_t count, int64_t k, \
    int64_t *rows, int64_t *distances, int64_t *compared, Way *kept, Scratch *scratch)
#define REPLAY (const Replay *all, const uint8_t *images, int64_t count, int64_t k, \
    int64_t *rows, int64_t *distances, int64_t *compared, Room room)
#define ANSWER (const Replay *all, const uint8_t *images, int64_t count, int64_t k, \
    int64_t *rows, int64_t *distances, int64_t *compared, int64_t *seen, int64_t *votes, Room room)
#define PASS_NEAREST (part, queries, count, k, rows, distances, compared, kept, scratch)
#define PASS_REPLAY (all, images, count, k, rows, distances, compared, room)
#define PASS_ANSWER (all, images, count, k, rows, distances, compared, seen, votes, room)

static int nearest_plain NEAREST { return nearest PASS_NEAREST; }
static int replay_plain REPLAY { return replay PASS_REPLAY; }
static int answer_plain ANSWER { return answer PASS_ANSWER; }
#if HAVE_POPCNT
POPCNT static int nearest_counting NEAREST { return nearest PASS_NEAREST; }
POPCNT static int replay_counting REPLAY { return replay PASS_REPLAY; }
POPCNT static int answer_counting ANSWER { return answer PASS_ANSWER; }
#define CHOOSE(name) (__builtin_cpu_supports("popcnt") ? name##_counting : name##_plain)
#else
#define CHOOSE(name) name##_plain
#endif

/* Find the k nearest rows of each query; -1 where there are fewer. -1 without memory. */
PUBLIC int tables_nearest(const Part *part, const uint64_t *queries, int64_t count, int64_t k,
                          int64_t *rows, int64_t *distances, int64_t *compared)
{
    Scratch scratch = {NULL, 0};
    Way *kept = malloc((size_t)k * sizeof *kept);
    int failed = !kept || CHOOSE(nearest)(part, queries, count, k, rows, distances, compared,
                                          kept, &scratch);
    free(scratch.ways);
    free(kept);
    return failed ? -1 : 0;
}

static void empty_room(Room room)
{
    free(room.sums);
    free(room.key);
    free(room.scratch->ways);
    free(room.kept);
}

static int make_room(const Replay *all, int64_t k, Scratch *scratch, Room *room)
{
    *room = (Room){
        malloc((size_t)k * sizeof *room->kept), scratch,
        malloc((size_t)all->words * sizeof *room->key),
        malloc((size_t)((all->side + 1) * (all->side + 1)) * sizeof *room->sums),
    };
    return room->kept && room->key && room->sums ? 0 : -1;
}

/* Look images up step by step: rows and distances [count][steps][k], compared [count][steps]. */
PUBLIC int tables_replay(const Replay *all, const uint8_t *images, int64_t count, int64_t k,
                         int64_t *rows, int64_t *distances, int64_t *compared)
{
    Scratch scratch = {NULL, 0};
    Room room;
    int failed = make_room(all, k, &scratch, &room)
        || CHOOSE(replay)(all, images, count, k, rows, distances, compared, room);
    empty_room(room);
    return failed ? -1 : 0;
}

/* Answer images: votes [count][classes], without what was found on the way. */
PUBLIC int tables_votes(const Replay *all, const uint8_t *images, int64_t count, int64_t k,
                        int64_t *votes)
{
    Scratch scratch = {NULL, 0};
    Room room;
    int64_t found = all->steps * k;
    int64_t *own = calloc((size_t)(2 * found + all->steps + all->classes), sizeof *own);
    int failed = make_room(all, k, &scratch, &room) || !own
        || CHOOSE(answer)(all, images, count, k, own, own + found, own + 2 * found,
                          own + 2 * found + all->steps, votes, room);
    empty_room(room);
    free(own);
    return failed ? -1 : 0;
}

#ifdef SOURCE
PUBLIC const char *tables_source(void) { return SOURCE; }
#endif
