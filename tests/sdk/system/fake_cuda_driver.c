/* What srflow_sdk.memory asks of NVIDIA's driver: says what was called, with what, and fails where it is told to. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

char calls[1000] = "";
char failing[40] = "";

static int called(const char *name, int number)
{
    sprintf(calls + strlen(calls), "%s(%d) ", name, number);
    return strcmp(name, failing) ? 0 : 999;
}

static int context;

int cuInit(unsigned flags) { return called("init", (int)flags); }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 40; return called("get", ordinal); }
int cuDevicePrimaryCtxRetain(void **out, int device) { *out = &context; return called("retain", device); }
int cuCtxPushCurrent_v2(void *pushed) { return called("push", pushed == &context); }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 5UL << 32; *total = 20UL << 32; return called("memory", 0); }
int cuCtxPopCurrent_v2(void **popped) { *popped = &context; return called("pop", 0); }
int cuDevicePrimaryCtxRelease_v2(int device) { return called("release", device); }
