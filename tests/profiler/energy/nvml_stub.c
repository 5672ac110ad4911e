/* Stands for libnvidia-ml.so.1 in tests: devices whose power follows a given curve, and errors on demand.
 *
 * The clock is virtual (stub_set_clock) or, where nobody sets it, the monotonic one counted from the first call.
 * A curve is a list of (time in s, power in W), linear in between and constant outside; the energy counter is its
 * exact integral. Faults are set by stub_fail or by the environment variable
 * NVML_STUB_FAIL=FUNCTION:CODE:AFTER[,FUNCTION:CODE:AFTER...]: from the call number AFTER (counted from 0) on, FUNCTION
 * returns CODE. NVML_STUB_DEVICES is the number of devices (1).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_DEVICES 8
#define MAX_KNOTS 256
#define MAX_FAULTS 32
#define NOT_FOUND 6
#define NOT_SUPPORTED 3
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2

typedef struct { int index; int is_mig; } Device;
typedef struct { char function[64]; int code, after, until, device; int calls; } Fault;
typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    int valueType, nvmlReturn;
    union { double dVal; unsigned uiVal; unsigned long long ullVal; } value;
} FieldValue;

static Device devices[MAX_DEVICES], instances[MAX_DEVICES];
static int device_count = 1, initialized = 0, has_counter = 1, has_instant = 1, has_mig = 0, from_environment = 0;
static double virtual_s = -1.0, knot_s[MAX_KNOTS], knot_w[MAX_KNOTS], counter_start_j = 0.0;
static int knots = 0, counter_bits = 64;
static Fault faults[MAX_FAULTS];
static int fault_count = 0;

void stub_reset(int count)
{
    device_count = count; initialized = 0; has_counter = has_instant = 1; has_mig = 0;
    virtual_s = -1.0; knots = 0; counter_start_j = 0.0; counter_bits = 64; fault_count = 0; from_environment = 1;
}
void stub_set_clock(double seconds) { virtual_s = seconds; }
void stub_set_features(int counter, int instant, int mig) { has_counter = counter; has_instant = instant; has_mig = mig; }
void stub_set_counter(double start_j, int bits) { counter_start_j = start_j; counter_bits = bits; }
int stub_initialized(void) { return initialized; }
void stub_set_curve(int count, const double *times_s, const double *powers_w)
{
    knots = count;
    memcpy(knot_s, times_s, count * sizeof(double));
    memcpy(knot_w, powers_w, count * sizeof(double));
}
/* `until` < 0: for good; `device` < 0: every device. */
void stub_fail(const char *function, int code, int after, int until, int device)
{
    Fault *fault = &faults[fault_count++];
    snprintf(fault->function, sizeof fault->function, "%s", function);
    fault->code = code; fault->after = after; fault->until = until; fault->device = device; fault->calls = 0;
}

static void read_environment(void)
{
    char *list, *item, text[1024];
    if (from_environment) return;
    from_environment = 1;
    if (getenv("NVML_STUB_DEVICES")) device_count = atoi(getenv("NVML_STUB_DEVICES"));
    if (!getenv("NVML_STUB_FAIL")) return;
    snprintf(text, sizeof text, "%s", getenv("NVML_STUB_FAIL"));
    for (list = text; (item = strtok(list, ",")) != NULL; list = NULL) {
        char function[64]; int code, after;
        if (sscanf(item, "%63[^:]:%d:%d", function, &code, &after) == 3) stub_fail(function, code, after, -1, -1);
    }
}
static int fault_of(const char *function, int device)
{
    int code = 0;
    read_environment();
    for (int i = 0; i < fault_count; i++) {
        Fault *fault = &faults[i];
        if (strcmp(fault->function, function) || (fault->device >= 0 && fault->device != device)) continue;
        int call = fault->calls++;
        if (call >= fault->after && (fault->until < 0 || call < fault->until)) code = fault->code;
    }
    return code;
}
static double now_s(void)
{
    static double first = -1.0;
    struct timespec now;
    if (virtual_s >= 0) return virtual_s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = now.tv_sec + 1e-9 * now.tv_nsec;
    if (first < 0) first = seconds;
    return seconds - first;
}
static double power_w(double at)
{
    if (!knots) return 100.0;
    if (at <= knot_s[0]) return knot_w[0];
    for (int i = 1; i < knots; i++)
        if (at < knot_s[i])
            return knot_w[i - 1] + (knot_w[i] - knot_w[i - 1]) * (at - knot_s[i - 1]) / (knot_s[i] - knot_s[i - 1]);
    return knot_w[knots - 1];
}
static double energy_j(double at)
{
    double total = 0.0, from = 0.0;
    for (int i = 0; i <= knots && from < at; i++) {
        double to = i < knots && knot_s[i] < at ? knot_s[i] : at;
        if (to > from) { total += (power_w(from) + power_w(to - 1e-12)) / 2 * (to - from); from = to; }
    }
    return total;
}

#define ENTER(name, device) do { \
    int code = fault_of(name, device); if (code) return code; if (!initialized) return UNINITIALIZED; } while (0)

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    int code = fault_of("nvmlInit", -1);
    if (code) return code;
    for (int i = 0; i < MAX_DEVICES; i++) {
        devices[i].index = instances[i].index = i; devices[i].is_mig = 0; instances[i].is_mig = 1;
    }
    initialized++;
    return 0;
}
int nvmlShutdown(void) { ENTER("nvmlShutdown", -1); initialized--; return 0; }
const char *nvmlErrorString(int code) { (void)code; return "an error that the stub was told to give"; }
int nvmlDeviceGetCount_v2(unsigned *count) { ENTER("nvmlDeviceGetCount", -1); *count = device_count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device)
{
    ENTER("nvmlDeviceGetHandleByIndex", (int)index);
    if ((int)index >= device_count) return INVALID_ARGUMENT;
    *device = &devices[index];
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device)
{
    int index = -1, instance;
    ENTER("nvmlDeviceGetHandleByUUID", -1);
    if (sscanf(uuid, "GPU-stub-%d", &index) == 1 && index < device_count) { *device = &devices[index]; return 0; }
    if (sscanf(uuid, "MIG-stub-%d-%d", &index, &instance) == 2 && has_mig) { *device = &instances[index]; return 0; }
    return NOT_FOUND;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *instance, Device **device)
{
    ENTER("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance->index);
    *device = &devices[instance->index];
    return 0;
}
int nvmlDeviceGetName(Device *device, char *name, unsigned length)
{
    ENTER("nvmlDeviceGetName", device->index);
    snprintf(name, length, "Stub H100");
    return 0;
}
int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length)
{
    ENTER("nvmlDeviceGetUUID", device->index);
    snprintf(uuid, length, "GPU-stub-%d", device->index);
    return 0;
}
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending)
{
    ENTER("nvmlDeviceGetMigMode", device->index);
    *current = *pending = has_mig;
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules)
{
    ENTER("nvmlDeviceGetTotalEnergyConsumption", device->index);
    if (!has_counter || device->is_mig) return NOT_SUPPORTED;
    unsigned long long count = (unsigned long long)(1e3 * (counter_start_j + energy_j(now_s())) + 0.5);
    *millijoules = counter_bits < 64 ? count & ((1ULL << counter_bits) - 1) : count;
    return 0;
}
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts)
{
    ENTER("nvmlDeviceGetPowerUsage", device->index);
    if (device->is_mig) return NOT_SUPPORTED;
    *milliwatts = (unsigned)(1e3 * power_w(now_s()) + 0.5);
    return 0;
}
int nvmlDeviceGetFieldValues(Device *device, int count, FieldValue *values)
{
    ENTER("nvmlDeviceGetFieldValues", device->index);
    for (int i = 0; i < count; i++) {
        values[i].nvmlReturn = has_instant && values[i].fieldId == 186 ? 0 : NOT_SUPPORTED;
        values[i].valueType = 1;
        values[i].value.uiVal = (unsigned)(1e3 * power_w(now_s()) + 0.5);
    }
    return 0;
}
