/* The layout of every public struct and the numbers of every public name, as they are compiled into
 * programs. A line here may change only together with the soname. */
#include <aios/codelet.h>
#include <aios/job.h>
#include <aios/server.h>
#include <aios/storage.h>
#include <aios/tasks.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#define AT(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field)
#define IS(name, value) _Static_assert((name) == (value), #name)

SIZE(aios_attach_options, 64);
AT(aios_attach_options, job_name, 8);
AT(aios_attach_options, memory_bytes, 16);
SIZE(aios_wait_item, 16);
AT(aios_wait_item, ready, 4);
AT(aios_wait_item, what, 8);
AT(aios_wait_item, what.fd.events, 12);
SIZE(aios_peer, 40);
AT(aios_peer, protocol_version, 16);
AT(aios_peer, client, 24);
AT(aios_peer, uid, 32);
SIZE(aios_object_info, 32);
AT(aios_object_info, version, 8);
AT(aios_object_info, created_ns, 16);
AT(aios_object_info, checksum, 24);
SIZE(aios_object_entry, 232);
AT(aios_object_entry, name, 32);
SIZE(aios_task_record, 256);
AT(aios_task_record, codelet, 8);
AT(aios_task_record, priority, 16);
AT(aios_task_record, grid, 32);
AT(aios_task_record, limit_ns, 48);
AT(aios_task_record, buffers, 56);
AT(aios_task_record, dependencies, 120);
AT(aios_task_record, arguments, 168);
AT(aios_task_record, deadline_ns, 232);
AT(aios_task_record, gang, 240);
AT(aios_task_record, gang_size, 244);
SIZE(aios_prediction, 32);
AT(aios_prediction, cheaper_tasks, 28);
SIZE(aios_offer, 24);
AT(aios_offer, cheaper_tasks, 16);
SIZE(aios_file_range, 24);
AT(aios_file_range, offset, 8);
SIZE(aios_completion, 72);
AT(aios_completion, status, 8);
AT(aios_completion, start_ns, 16);
AT(aios_completion, result, 40);
SIZE(aios_mapreduce_options, 112);
AT(aios_mapreduce_options, inputs, 32);
AT(aios_mapreduce_options, output, 48);
AT(aios_mapreduce_options, threads, 60);
AT(aios_mapreduce_options, task_limit_ns, 72);
AT(aios_mapreduce_options, max_bad_records, 104);
SIZE(aios_mapreduce_progress, 80);
AT(aios_mapreduce_progress, phase, 72);
AT(aios_mapreduce_progress, skipped_records, 76);
SIZE(aios_mapreduce_result, 752);
AT(aios_mapreduce_result, input_files, 80);
AT(aios_mapreduce_result, counters, 112);
SIZE(aios_task, 80); /* made by the context: modules built before it grew see less of it */
AT(aios_task, message_bytes, 64);
SIZE(aios_buffer, 32);
SIZE(aios_file_piece, 32);
SIZE(aios_module_table, 16);

IS(AIOS_OK, 0);
IS(AIOS_BAD_HANDLE, 2);
IS(AIOS_PEER_CLOSED, 12);
IS(AIOS_INTERNAL, 25);
IS(AIOS_WAIT_CALL, 1);
IS(AIOS_WAIT_TENANT, 6);
IS(AIOS_GRANT_READ, 1);
IS(AIOS_GRANT_WRITE, 2);
IS(AIOS_REGION_FREEZABLE, 1);
IS(AIOS_TASK_IDEMPOTENT, 1);
IS(AIOS_MODE_SCRATCH, 4);
IS(AIOS_PHASE_FAILED, 3);
IS(AIOS_PHASE_FETCHING, 4);
IS(AIOS_PHASE_UNPACKING, 5);

/* Compiling is the test; the library in use is that of the header. */
int main(void) {
  return aios_version()[0] == '0' + AIOS_VERSION_MAJOR ? 0 : 1;
}
