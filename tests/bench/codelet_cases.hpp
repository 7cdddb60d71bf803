// What codelets-bench measures: the standard codelets, with inputs larger than caches where that is
// how they are used, and what does the same without AIOS.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace aios::bench {

struct CodeletCase {
  using Part = std::function<void(unsigned thread, unsigned threads)>;
  std::string name;
  std::string peer_name;
  Part shares;  ///< as a context calls the codelet
  Part blocks;  ///< the kernel's blocks, as a context calls a codelet that does not divide its grid
  Part peer;    ///< null: there is none here
  bool peer_lingers =
      false;  ///< has threads of its own that look for more work when theirs is done
};

/// Throws std::runtime_error when a module cannot be loaded.
std::vector<CodeletCase> codelet_cases();

}  // namespace aios::bench
