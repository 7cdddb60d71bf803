// A file system of the campaign's own for the instance's folder, so that it can be filled. It is
// mounted in a mount namespace of this process and ends with it.
#pragma once

#include <string>

namespace aios::fault {

/// To be called before any thread begins. As root an ext4 file system in a file, through a loop
/// device; where that does not work, and as an ordinary user (in a user namespace), a tmpfs. Sets
/// $TMPDIR to it. "ext4" or "tmpfs"; empty where neither can be had: then no disk is filled, and
/// $TMPDIR is as before.
std::string mount_small_disk();
/// Takes the empty folder away again, when nothing uses it any more.
void unmount_small_disk();

}  // namespace aios::fault
