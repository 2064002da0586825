// The yardstick of bench/walk.ts: the same walk and the same table fill over the same layout, in C.
//   walk  64 GiB mapped by 4K pages in four levels; random frames in batches of 1000; prints ns per walk
//   map   4K pages in order: a table page from an arena for each 512, pre-filled with its contiguity markers as
//        Xen does, leaf stores that keep them; prints ns per page
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PRESENT 3u
#define SUPERPAGE 8u
#define PAGES (1u << 24)
#define TABLES (PAGES / 512)

static uint64_t *slots;
static uint32_t next_table = 1;

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static uint64_t *reserve(size_t tables) {
  void *p = mmap(0, tables * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) exit(1);
  return p;
}

static uint64_t make(uint64_t frame, uint64_t low) { return frame << 16 | low; }

static __attribute__((noinline)) int64_t walk(uint32_t root, uint64_t dfn, uint64_t needed) {
  uint64_t table = root;
  for (int level = 3; level > 0; level--) {
    uint64_t slot = slots[table * 512 + ((dfn >> (9 * level)) & 511)];
    if (!(slot & PRESENT)) return needed == 2 ? -5 : -6;
    if (slot & SUPERPAGE) return (slot & needed) ? (int64_t)(slot + ((dfn & ((1ull << (9 * level)) - 1)) << 16)) : -5;
    table = slot >> 16;
  }
  uint64_t leaf = slots[table * 512 + (dfn & 511)];
  return (leaf & needed) ? (int64_t)leaf : (needed == 2 ? -5 : -6);
}

static void run_walk(const char *dfn_file) {
  slots = reserve(TABLES + 128);
  uint32_t root = next_table++, directory = next_table++;
  slots[root * 512] = make(directory, PRESENT);
  for (uint32_t g = 0; g < PAGES / (512 * 512); g++) {
    uint32_t middle = next_table++;
    slots[directory * 512 + g] = make(middle, PRESENT);
    for (uint32_t m = 0; m < 512; m++) {
      uint32_t leaf = next_table++;
      slots[middle * 512 + m] = make(leaf, PRESENT);
      for (uint64_t i = 0; i < 512; i++) slots[leaf * 512 + i] = make((uint64_t)g * 262144 + m * 512 + i, PRESENT);
    }
  }
  FILE *f = fopen(dfn_file, "rb");
  if (!f) exit(1);
  fseek(f, 0, SEEK_END);
  long n = ftell(f) / 4;
  rewind(f);
  uint32_t *dfns = malloc(n * 4);
  if (fread(dfns, 4, n, f) != (size_t)n) exit(1);
  double best = 0, start;
  int64_t sum = 0;
  for (int round = 0; round < 2; round++) {
    start = now_ns();
    for (long i = 0; i < n; i++) sum += walk(root, dfns[i], 2);
    best = (now_ns() - start) / n;
  }
  fprintf(stderr, "%lld\n", (long long)sum);
  printf("%f\n", best);
}

static void run_map(uint32_t tables) {
  slots = reserve(tables + 2);
  uint32_t directory = next_table++;
  uint64_t markers[512];
  for (uint64_t i = 0; i < 512; i++) markers[i] = (i ? __builtin_ctzll(i) : 9) << 4;
  double start = now_ns();
  for (uint32_t t = 0; t < tables; t++) {
    uint32_t leaf = next_table++;
    memcpy(slots + leaf * 512, markers, 4096);
    for (uint64_t i = 0; i < 512; i++) slots[leaf * 512 + i] = make((uint64_t)t * 512 + i, PRESENT) | markers[i];
    slots[directory * 512 + (t & 511)] = make(leaf, PRESENT);
  }
  printf("%f\n", (now_ns() - start) / (tables * 512.0));
}

int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "walk")) run_walk(argv[2]);
  else if (argc > 2 && !strcmp(argv[1], "map")) run_map(atoi(argv[2]));
  else return 64;
  return 0;
}
