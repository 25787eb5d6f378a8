/* A driver of CUDA that has no GPU: it prints what the calls that load and launch kernels were given. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int Result;

static Result load(void **module, const char *image) {
  printf("load %s\n", image);
  *module = (void *)0x77;
  return 0;
}

static Result find(void **function, void *module, const char *name) {
  printf("find %s in %p\n", name, module);
  *function = (void *)(0x1000 + strlen(name));
  return 0;
}

static Result launch(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                     unsigned shared, void *stream, void **arguments, void **extra) {
  printf("launch %p, grid %u %u %u, block %u %u %u, shared %u, stream %p, arguments %lx %lx %lx, extra %d\n", function,
         gx, gy, gz, bx, by, bz, shared, stream, *(uint64_t *)arguments[0], *(uint64_t *)arguments[1],
         *(uint64_t *)arguments[2], extra != 0);
  return 0;
}

static Result unload(void *module) {
  printf("unload %p\n", module);
  return 0;
}

static Result version(int *number) {
  *number = 13000;
  return 0;
}

static Result nothing(void) { return 0; }

Result cuGetProcAddress_v2(const char *name, void **function, int version_of, uint64_t flags, int *status) {
  const struct {
    const char *name;
    void *function;
  } known[] = {{"cuModuleLoadData", load}, {"cuModuleGetFunction", find},   {"cuLaunchKernel", launch},
               {"cuModuleUnload", unload}, {"cuDriverGetVersion", version}, {"cuGetProcAddress", cuGetProcAddress_v2}};
  *function = nothing;
  for (unsigned i = 0; i < sizeof(known) / sizeof(*known); ++i)
    if (strcmp(name, known[i].name) == 0) *function = known[i].function;
  if (status) *status = 0;
  return 0;
}

Result cuGetProcAddress(const char *name, void **function, int version_of, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version_of, flags, 0);
}

Result cuDriverGetVersion(int *number) { return version(number); }

Result cuInit(unsigned flags) { return 0; }
