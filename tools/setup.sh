#!/usr/bin/env bash
# What tools/run and tools/test share: packages and builds. Sourced by both, from the root of the
# source tree.

# shellcheck disable=SC2034 # used by those who source this
build_packages=(
  g++ libc6-dev meson ninja-build pkg-config python3
  doctest-dev libcli11-dev libedit-dev libfmt-dev libhwloc-dev libjpeg62-turbo-dev libmicrohttpd-dev
  libpng-dev libseccomp-dev libsqlite3-dev libtomlplusplus-dev liburing-dev libxgboost-dev
  libxxhash-dev libzstd-dev nlohmann-json3-dev opencl-c-headers robin-map-dev zlib1g-dev
)

# Clang 16 is the first that compiles this tree; libFuzzer comes with its runtime.
fuzz_packages=(clang-16 libclang-rt-16-dev llvm-16)
# What the tests of the Python package need besides.
python_packages=(
  mypy python3-numpy python3-pip python3-setuptools python3-venv python3-wheel
  python3-xxhash python3-zstandard
)
# Whose parser reads what `aiosctl metrics` writes.
metrics_packages=(python3-prometheus-client)

# OpenCL on the processor, for the tests of that backend, which are skipped without; OpenBLAS, which
# codelets use where it is there.
gpu_packages=(libopenblas0-pthread ocl-icd-libopencl1 pocl-opencl-icd)

# What the boot tests need; they are skipped without.
machine_packages=(busybox-static cpio qemu-system-x86 zstd)
container_packages=(buildah busybox-static runc)

# Clusters of Spark, for tools/cluster and the tests of services/cluster; they are skipped without.
cluster_packages=(
  iproute2 openjdk-17-jre-headless python3-pip python3-setuptools python3-venv python3-wheel
  python3-xxhash python3-zstandard
)
spark_version=4.0.1

say() { printf '%s\n' "$*" >&2; }

# Of the packages named, those that are not installed.
missing_packages() {
  local installed
  # Names a query does not know are an error of dpkg-query, and missing all the same.
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p' || true)
  printf '%s\n' "$@" | grep -vxF -e "$installed" || true
}

# Installs what is missing of the packages named. Ends the script with 2, listing them, where that
# is not possible.
ensure_packages() {
  local missing log
  local -a as_root=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "This script installs packages on Debian only; going on with what is there."
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }
    then
      say "These packages are missing, and installing them needs root:"
      say "  apt-get install ${missing[*]}"
      exit 2
    fi
    as_root=(sudo)
  fi
  say "Installing ${missing[*]}"
  log=$(mktemp)
  if ! "${as_root[@]}" apt-get update -q >"$log" 2>&1 ||
    ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy \
      --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    say "Could not install: ${missing[*]}"
    say "  apt-get install ${missing[*]}"
    exit 2
  fi
  rm -f "$log"
}

# configure FOLDER OPTION...: sets the build folder up unless it is.
configure() {
  local folder=$1 log
  shift
  [[ -f $folder/build.ninja ]] && return 0
  log=$(mktemp)
  if ! meson setup "$folder" "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    say "Could not set up $folder."
    return 1
  fi
  rm -f "$log"
}

# configure_fuzz FOLDER OPTIMIZATION: a build folder of the fuzzers; tests/fuzz/meson.build looks for the
# first of these arguments. std::expected is hidden from clang by an old number of its concepts.
configure_fuzz() {
  CC=clang-16 CXX=clang++-16 configure "$1" -Doptimization="$2" -Dwerror=false \
    -Db_sanitize=address,undefined -Db_lundef=false \
    -Dcpp_args='-fsanitize=fuzzer-no-link -g1 -fno-sanitize=vptr -D__cpp_concepts=202002L -Wno-builtin-macro-redefined'
}

# What is built of what `meson install` of the folder would install: the programs, without the tests,
# and without what Meson itself has written when the folder was set up.
installed_targets() {
  meson introspect --targets "$1" | python3 -c '
import json, os, sys
folder = os.path.realpath(sys.argv[1])
for target in json.load(sys.stdin):
    for path in target["filename"] if target["installed"] else []:
        print(os.path.relpath(path, folder))' "$1"
}

# test_targets FOLDER SUITE...: what the tests of these suites need.
test_targets() {
  python3 - "$@" <<'END'
import json, os, subprocess, sys
folder, suites = sys.argv[1], set(sys.argv[2:])
def introspect(what):
    return json.loads(subprocess.run(["meson", "introspect", what, folder], check=True,
                                     capture_output=True).stdout)
files = {t["id"]: t["filename"] for t in introspect("--targets")}
needed = set()
for test in introspect("--tests"):
    # Meson names a suite PROJECT:SUITE.
    if suites & {suite.rpartition(":")[2] for suite in test["suite"]}:
        for target in test["depends"]:
            needed.update(os.path.relpath(f, os.path.abspath(folder)) for f in files[target])
print(*sorted(needed), sep="\n")
END
}

# build FOLDER [TARGET...]: a line of progress on a terminal, nothing when all is built, the
# errors when it fails. $build_minutes, if set, is how long it may take.
build() {
  local folder=$1 log status=0
  shift
  log=$(mktemp)
  if [[ -t 2 ]]; then
    # Of ninja, what is overwritten line by line; the rest goes to the log.
    NINJA_STATUS='[%f/%t] ' timeout --foreground "${build_minutes:-0}m" \
      ninja -C "$folder" "$@" 2>&1 | tee "$log" |
      awk -v columns="$(tput cols 2>/dev/null || echo 80)" '/^\[[0-9]+\/[0-9]+\]/ {
        printf "\r\033[K%s", substr($0, 1, columns - 1); fflush(); shown = 1 }
        END { if (shown) printf "\r\033[K" }' >&2 || status=$?
  else
    timeout --foreground "${build_minutes:-0}m" ninja -C "$folder" "$@" >"$log" 2>&1 || status=$?
  fi
  if ((status == 124)); then
    say "The build in $folder took more than its $build_minutes minutes."
  elif ((status != 0)); then
    grep -E '(error|FAILED|undefined reference|ninja:)' "$log" | head -n 40 >&2 || true
    say "The build in $folder failed; see all of it with: ninja -C $folder"
  fi
  rm -f "$log"
  return "$status"
}

# cluster_python: makes the virtual environment build/cluster-python, with Spark and with the packages
# of this tree where they stand. Spark is large, and comes from the network once; without one: false.
cluster_python() {
  local python=build/cluster-python/bin/python site
  [[ -x $python ]] || /usr/bin/python3 -m venv --system-site-packages build/cluster-python || return 1
  site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$PWD/abi/python" "$PWD/services/cluster" >"$site/aios-tree.pth"
  "$python" -c "import pyspark; assert pyspark.__version__ == '$spark_version'" 2>/dev/null && return 0
  say "Fetching Spark $spark_version"
  "$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --retries 1 \
    "pyspark==$spark_version" >&2
}
