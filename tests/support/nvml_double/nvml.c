/* A double of NVIDIA's management library, for tests: it knows one GPU, that of the double of the
 * CUDA driver, and says what AIOS_NVML_DOUBLE orders: busy=PERCENT;celsius=DEGREES   one left out
 * is not supported hang                           no question is ever answered crash the first
 * question ends the process driver                         there is no driver other the GPU at that
 * address is another one */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

struct utilisation {
  unsigned gpu;
  unsigned memory;
};

static const char bus[] = "0000:00:00.0";
/* The bytes "AIOS emulator 0". */
static const char uuid[] = "GPU-41494f53-2065-6d75-6c61-746f72203000";
static int the_device;

static const char* orders(void) {
  const char* const text = getenv("AIOS_NVML_DOUBLE");
  return text != NULL ? text : "";
}

static int number(const char* name, unsigned* value) {
  const char* const at = strstr(orders(), name);
  if (at == NULL) return NOT_SUPPORTED;
  *value = (unsigned)atoi(at + strlen(name));
  return SUCCESS;
}

int nvmlInit_v2(void) {
  return strcmp(orders(), "driver") == 0 ? DRIVER_NOT_LOADED : SUCCESS;
}

const char* nvmlErrorString(int code) {
  switch (code) {
    case SUCCESS:
      return "Success";
    case NOT_FOUND:
      return "Not Found";
    case DRIVER_NOT_LOADED:
      return "Driver Not Loaded";
    default:
      return "Unknown Error";
  }
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  while (strcmp(orders(), "hang") == 0) pause();
  if (strcmp(orders(), "crash") == 0) raise(SIGSEGV);
  if (strcmp(address, bus) != 0) return NOT_FOUND;
  *device = &the_device;
  return SUCCESS;
}

int nvmlDeviceGetUUID(void* device, char* text, unsigned bytes) {
  (void)device;
  snprintf(text, bytes, "%s", strcmp(orders(), "other") == 0 ? "GPU-other" : uuid);
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void* device, struct utilisation* now) {
  (void)device;
  now->memory = 0;
  return number("busy=", &now->gpu);
}

int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
  (void)device;
  return sensor == 0 ? number("celsius=", celsius) : NOT_SUPPORTED;
}
