// A region that two programs share, by its label in their job:
//
//   aiosctl run --job demo -- sh -c 'share write "a text" && share read'
//
// The second program finds it also when the first has ended: it belongs to the job. To hand a
// region to one program only, serve it: Request::grant and Service::receive.
#include <aios/aios.hpp>
#include <algorithm>
#include <cstdio>
#include <string>

namespace {

const std::string label = "shared-text";

void write_text(aios::Instance& instance, const std::string& text) {
  const aios::Region region = instance.create_region(text.size() + 1, "text");
  std::copy(text.begin(), text.end(), region.as<char>().begin());
  // Whoever opens it may read it only.
  region.keep(label, aios::Access::read);
}

void read_text(aios::Instance& instance) {
  const aios::Region region = instance.open_region(label, aios::Access::read);
  const auto text = region.as<char>();
  std::printf("%s\n", std::string(text.begin(), std::find(text.begin(), text.end(), '\0')).c_str());
  instance.forget(label);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    aios::Instance instance;
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "write" && argc == 3) {
      write_text(instance, argv[2]);
    } else if (what == "read" && argc == 2) {
      read_text(instance);
    } else {
      std::fprintf(stderr, "usage: share write TEXT | share read\n");
      return 2;
    }
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
