#include "services/scheduler/trainer/xgboost.hpp"

#include <dlfcn.h>
#include <xgboost/c_api.h>

#include <cstdlib>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>

namespace aios::scheduler::trainer {
namespace {

constexpr const char* default_library = "libxgboost.so.0";
static_assert(xgboost_rounds <= static_cast<int>(max_trees));

constexpr XgboostParameter parameters[] = {
    {"booster", "gbtree"},
    {"objective", "reg:squarederror"},
    {"tree_method", "exact"},
    {"max_depth", "4"},
    {"eta", "0.16"},
    {"min_child_weight", "4"},
    {"lambda", "1"},
    {"base_score", "0"},
    {"seed", "0"},
    {"nthread", "1"},
    {"verbosity", "0"},
};

/// The functions of its C interface, by their declarations.
struct Api {
  decltype(&::XGBGetLastError) last_error;
  decltype(&::XGBoostVersion) version;
  decltype(&::XGDMatrixCreateFromMat) matrix_create;
  decltype(&::XGDMatrixSetFloatInfo) matrix_set;
  decltype(&::XGDMatrixFree) matrix_free;
  decltype(&::XGBoosterCreate) create;
  decltype(&::XGBoosterSetParam) set;
  decltype(&::XGBoosterUpdateOneIter) update;
  decltype(&::XGBoosterSaveModelToBuffer) save;
  decltype(&::XGBoosterFree) free;

  template <class F>
  static bool find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(::dlsym(library, name));
    return function != nullptr;
  }
  bool load(void* library) {
    return find(library, "XGBGetLastError", last_error) &&
           find(library, "XGBoostVersion", version) &&
           find(library, "XGDMatrixCreateFromMat", matrix_create) &&
           find(library, "XGDMatrixSetFloatInfo", matrix_set) &&
           find(library, "XGDMatrixFree", matrix_free) &&
           find(library, "XGBoosterCreate", create) && find(library, "XGBoosterSetParam", set) &&
           find(library, "XGBoosterUpdateOneIter", update) &&
           find(library, "XGBoosterSaveModelToBuffer", save) &&
           find(library, "XGBoosterFree", free);
  }
  Result<void> check(int result, const char* what) const {
    if (result == 0) return {};
    return error(Code::internal, std::string("XGBoost: ") + what + ": " + last_error());
  }
};

/// Frees what the library has made.
class Owned {
 public:
  explicit Owned(int (*free)(void*)) : free_(free) {}
  Owned(const Owned&) = delete;
  ~Owned() {
    if (handle != nullptr) free_(handle);
  }
  void* handle = nullptr;

 private:
  int (*free_)(void*);
};

std::unexpected<Status> unexpected_model(const char* what) {
  return error(Code::internal, std::string("XGBoost's model is not as expected: ") + what);
}

/// Brings one tree into our order: below a node come only later ones, two and two.
Result<void> add_tree(const nlohmann::json& tree, Booster::Forest& forest) {
  const auto left = tree.at("left_children").get<std::vector<int>>();
  const auto right = tree.at("right_children").get<std::vector<int>>();
  const auto feature = tree.at("split_indices").get<std::vector<int>>();
  const auto value = tree.at("split_conditions").get<std::vector<float>>();
  const auto size = static_cast<int>(left.size());
  if (right.size() != left.size() || feature.size() != left.size() || value.size() != left.size())
    return unexpected_model("lists of a tree differ in length");
  forest.roots.push_back(static_cast<std::uint16_t>(forest.nodes.size()));
  forest.nodes.push_back({});
  struct Place {
    int from;
    std::size_t to;
  };
  for (std::deque<Place> open{{0, forest.roots.back()}}; !open.empty(); open.pop_front()) {
    const auto [from, to] = open.front();
    if (from < 0 || from >= size) return unexpected_model("a tree leads nowhere");
    const std::size_t below = forest.nodes.size();
    if (left[from] < 0) {
      forest.nodes[to] = {value[from], TreeNode::leaf, 0};
      continue;
    }
    if (below + 2 > max_tree_nodes) return unexpected_model("it has too many nodes");
    forest.nodes[to] = {value[from], static_cast<std::uint16_t>(feature[from]),
                        static_cast<std::uint16_t>(below)};
    forest.nodes.resize(below + 2);
    open.push_back({left[from], below});
    open.push_back({right[from], below + 1});
  }
  return {};
}

Result<Booster::Forest> forest_of(std::string_view model) {
  // Numbers and names of a library's own making: what does not parse is a defect, not an attack.
  try {
    const auto json = nlohmann::json::parse(model);
    Booster::Forest forest;
    for (const auto& tree : json.at("learner").at("gradient_booster").at("model").at("trees"))
      TRY(add_tree(tree, forest));
    return forest;
  } catch (const nlohmann::json::exception& failure) {
    return unexpected_model(failure.what());
  }
}

class Xgboost final : public Booster {
 public:
  explicit Xgboost(const Api& api) : api_(api) {}

  std::string name() const override {
    int major = 0, minor = 0, patch = 0;
    api_.version(&major, &minor, &patch);
    return "XGBoost " + std::to_string(major) + "." + std::to_string(minor) + "." +
           std::to_string(patch);
  }

  Result<Forest> fit(std::span<const TreeFeatures> rows, std::span<const float> margins,
                     std::span<const float> labels, const std::function<bool()>& stop) override {
    Owned matrix(api_.matrix_free);
    TRY(api_.check(api_.matrix_create(rows.front().data(), rows.size(), tree_features,
                                      std::numeric_limits<float>::quiet_NaN(), &matrix.handle),
                   "matrix"));
    TRY(api_.check(api_.matrix_set(matrix.handle, "base_margin", margins.data(), margins.size()),
                   "margins"));
    TRY(api_.check(api_.matrix_set(matrix.handle, "label", labels.data(), labels.size()),
                   "labels"));
    Owned booster(api_.free);
    TRY(api_.check(api_.create(&matrix.handle, 1, &booster.handle), "booster"));
    for (const auto& [name, value] : parameters)
      TRY(api_.check(api_.set(booster.handle, name, value), name));
    for (int round = 0; round < xgboost_rounds; ++round) {
      if (stop()) return error(Code::cancelled, "the training was stopped");
      TRY(api_.check(api_.update(booster.handle, round, matrix.handle), "round"));
    }
    const char* model = nullptr;
    bst_ulong length = 0;
    TRY(api_.check(api_.save(booster.handle, R"({"format": "json"})", &length, &model), "save"));
    return forest_of({model, length});
  }

 private:
  Api api_;
};

}  // namespace

std::span<const XgboostParameter> xgboost_parameters() {
  return parameters;
}

Result<std::unique_ptr<Booster>> load_xgboost(const char* library) {
  const std::string name = library != nullptr ? library : default_library;
  // Its OpenMP would otherwise make a thread for each core when it is first used.
  ::setenv("OMP_NUM_THREADS", "1", 1);
  void* loaded = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr)
    return error(Code::not_supported,
                 name + " is not there: apt-get install " + std::string(xgboost_package));
  Api api{};
  // Never closed: its threads' memory refers to it.
  if (!api.load(loaded))
    return error(Code::not_supported, name + " has not the functions of XGBoost 1.7");
  return std::make_unique<Xgboost>(api);
}

}  // namespace aios::scheduler::trainer
