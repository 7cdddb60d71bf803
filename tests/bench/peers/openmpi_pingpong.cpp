// Open MPI's shared memory: 56 bytes to the other rank and back, both polling. Run by
// `mpirun -n 2 bench-openmpi CLIENT_CORE SERVER_CORE`; rank 0 prints "mean p50 p99 p999" in
// nanoseconds.
#include <mpi.h>

#include <cstdio>
#include <cstdlib>

#include "tools/bench/peer.hpp"
#include "tools/bench/samples.hpp"

namespace {

constexpr int rounds = 100'000;
constexpr int bytes = 56;
constexpr int tag = 1;

void round_trip(int rank, char* message) {
  const int other = 1 - rank;
  if (rank == 0) MPI_Send(message, bytes, MPI_CHAR, other, tag, MPI_COMM_WORLD);
  MPI_Recv(message, bytes, MPI_CHAR, other, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  if (rank == 1) MPI_Send(message, bytes, MPI_CHAR, other, tag, MPI_COMM_WORLD);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace aios::bench;
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 3 || ranks != 2 || !pin(std::atoi(argv[1 + rank]))) {
    std::fputs("usage: mpirun -n 2 bench-openmpi CLIENT_CORE SERVER_CORE\n", stderr);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  char message[bytes] = {};
  for (int i = 0; i < rounds / 10; ++i) round_trip(rank, message);
  Samples samples(rounds);
  std::uint64_t last = ticks();
  for (int i = 0; i < rounds; ++i) {
    round_trip(rank, message);
    const std::uint64_t now = ticks();
    samples.add(now - last);
    last = now;
  }
  if (rank == 0) samples.quantiles().print();
  MPI_Finalize();
}
