/* OpenVINO's plug-in takes processors of Intel only, although its kernels run on any x86-64 with AVX2. Registered before
 * it, this library changes the answer of OrtApi::HardwareDevice_VendorId in this process, so that its real kernels can be
 * tested on any such machine. OrtApi only grows at its end: the place of a function in it never changes.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { API_VERSION = 22, HARDWARE_DEVICE_VENDOR_ID = 308 };

typedef struct {
  const void **(*get_api)(uint32_t version);
} ApiBase;

static uint32_t intel(const void *device) {
  (void)device;
  return 0x8086;
}

void *CreateEpFactories(const char *name, const ApiBase *base, const void *logger, void **factories, size_t capacity,
                        size_t *count) {
  (void)name, (void)logger, (void)factories, (void)capacity;
  const void **entry = base->get_api(API_VERSION) + HARDWARE_DEVICE_VENDOR_ID;
  uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
  void *page = (void *)((uintptr_t)entry & ~(page_size - 1));
  if (mprotect(page, page_size, PROT_READ | PROT_WRITE) == 0) *entry = (const void *)(uintptr_t)intel;
  *count = 0;
  return NULL;
}

void *ReleaseEpFactory(void *factory) {
  (void)factory;
  return NULL;
}
