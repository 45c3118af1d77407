// The pieces that the configuration's schema is declared with: a `Schema<T>` is the list of keys
// that may stand in the YAML map that makes a T. Reading, writing and documenting a map all go by
// its one schema.
//
// A schema is immutable once made; any thread.
#ifndef LATENTD_CONFIG_KEY_H_
#define LATENTD_CONFIG_KEY_H_

#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/codec.h"
#include "config/findings.h"

namespace latentd {

struct KeyDoc {
  std::string path;  // "data.lanes[].cache"
  std::string doc;
  bool required = false;
};

enum class Presence { kOptional, kRequired };

template <typename T>
struct Key {
  std::string name;
  std::string doc;  // sentences for the user
  Presence presence = Presence::kOptional;
  // Reads the value at `path` into the target; what is wrong goes to the findings.
  std::function<void(const YAML::Node& value, const std::string& path, T& target, Findings&)> read;
  // Writes the value after its key.
  std::function<void(const T& source, YAML::Emitter&)> write;
  // Whether there is something to write.
  std::function<bool(const T& source)> is_set = [](const T&) { return true; };
  // Of the keys inside, with paths from here: ".cert", "[].cache".
  std::vector<KeyDoc> nested;
};

template <typename T>
using Schema = std::vector<Key<T>>;

// The start of the file, if the mark is null.
Position PositionOf(const YAML::Mark& mark);
Position PositionOf(const YAML::Node& node);

// The text of a value that must be a scalar. Otherwise a fault, and nothing.
std::optional<std::string> ReadScalarText(const YAML::Node& value, const std::string& path,
                                          bool quotes_allowed, Findings& findings);

// The elements of a list of `min` to `max`. Otherwise a fault, and nothing.
std::optional<std::vector<YAML::Node>> ReadElements(const YAML::Node& value,
                                                    const std::string& path, size_t min, size_t max,
                                                    Findings& findings);

// The entries of a map by key, with their positions noted. Faults: not a map; keys that are
// repeated, not known or, if required, missing. What a misspelt key may have meant is not known.
std::map<std::string, YAML::Node> ReadEntries(
    const YAML::Node& value, const std::string& path,
    const std::vector<std::pair<std::string, Presence>>& known, Findings& findings);

std::string JoinPath(const std::string& path, const std::string& key);
std::string ElementPath(const std::string& path, size_t index);

template <typename V>
std::optional<V> ReadScalar(const YAML::Node& value, const std::string& path, const Codec<V>& codec,
                            Findings& findings) {
  const auto text = ReadScalarText(value, path, codec.quotes_allowed, findings);
  if (!text) return std::nullopt;
  absl::StatusOr<V> parsed = codec.parse(*text);
  if (parsed.ok()) return *std::move(parsed);
  findings.AddFaultOf(path, PositionOf(value), absl::StrCat(path, ": ", parsed.status().message()));
  return std::nullopt;
}

template <typename T>
void ReadMap(const YAML::Node& value, const std::string& path, const Schema<T>& schema, T& target,
             Findings& findings) {
  std::vector<std::pair<std::string, Presence>> known;
  for (const Key<T>& key : schema) known.emplace_back(key.name, key.presence);
  const auto entries = ReadEntries(value, path, known, findings);
  for (const Key<T>& key : schema) {
    if (const auto entry = entries.find(key.name); entry != entries.end()) {
      key.read(entry->second, JoinPath(path, key.name), target, findings);
    }
  }
}

template <typename T>
void WriteMap(const T& source, const Schema<T>& schema, YAML::Emitter& out) {
  out << YAML::BeginMap;
  for (const Key<T>& key : schema) {
    if (!key.is_set(source)) continue;
    out << YAML::Key << key.name << YAML::Value;
    key.write(source, out);
  }
  out << YAML::EndMap;
}

template <typename T>
std::vector<KeyDoc> Document(const Schema<T>& schema, const std::string& prefix) {
  std::vector<KeyDoc> docs;
  for (const Key<T>& key : schema) {
    const std::string path = absl::StrCat(prefix, key.name);
    docs.push_back({path, key.doc, key.presence == Presence::kRequired});
    for (const KeyDoc& nested : key.nested) {
      docs.push_back({absl::StrCat(path, nested.path), nested.doc, nested.required});
    }
  }
  return docs;
}

// --- Kinds of keys. `member` is where the value goes. ---

template <typename T, typename M, typename V>
Key<T> ScalarKey(std::string name, M T::*member, Codec<V> codec, std::string doc,
                 Presence presence = Presence::kOptional) {
  Key<T> key;
  key.name = std::move(name);
  key.doc = std::move(doc);
  key.presence = presence;
  key.read = [member, codec](const YAML::Node& value, const std::string& path, T& target,
                             Findings& findings) {
    if (auto read = ReadScalar(value, path, codec, findings)) {
      target.*member = static_cast<M>(*std::move(read));
    }
  };
  key.write = [member, codec](const T& source, YAML::Emitter& out) {
    out << codec.format(static_cast<V>(source.*member));
  };
  return key;
}

template <typename T, typename M>
Key<T> MapKey(std::string name, M T::*member, Schema<M> schema, std::string doc,
              Presence presence = Presence::kOptional) {
  Key<T> key;
  key.name = std::move(name);
  key.doc = std::move(doc);
  key.presence = presence;
  key.nested = Document(schema, ".");
  key.read = [member, schema](const YAML::Node& value, const std::string& path, T& target,
                              Findings& findings) {
    ReadMap(value, path, schema, target.*member, findings);
  };
  key.write = [member, schema](const T& source, YAML::Emitter& out) {
    WriteMap(source.*member, schema, out);
  };
  return key;
}

// A map that makes a difference by being there.
template <typename T, typename M>
Key<T> OptionalMapKey(std::string name, std::optional<M> T::*member, Schema<M> schema,
                      std::string doc) {
  Key<T> key;
  key.name = std::move(name);
  key.doc = std::move(doc);
  key.nested = Document(schema, ".");
  key.read = [member, schema](const YAML::Node& value, const std::string& path, T& target,
                              Findings& findings) {
    ReadMap(value, path, schema, (target.*member).emplace(), findings);
  };
  key.write = [member, schema](const T& source, YAML::Emitter& out) {
    WriteMap(*(source.*member), schema, out);
  };
  key.is_set = [member](const T& source) { return (source.*member).has_value(); };
  return key;
}

template <typename T, typename E>
Key<T> MapListKey(std::string name, std::vector<E> T::*member, Schema<E> schema, size_t min,
                  size_t max, std::string doc, Presence presence = Presence::kOptional) {
  Key<T> key;
  key.name = std::move(name);
  key.doc = std::move(doc);
  key.presence = presence;
  key.nested = Document(schema, "[].");
  key.read = [=](const YAML::Node& value, const std::string& path, T& target, Findings& findings) {
    const auto elements = ReadElements(value, path, min, max, findings);
    if (!elements) return;
    for (const YAML::Node& element : *elements) {
      const std::string element_path = ElementPath(path, (target.*member).size());
      findings.NotePosition(element_path, PositionOf(element));
      ReadMap(element, element_path, schema, (target.*member).emplace_back(), findings);
    }
  };
  key.write = [member, schema](const T& source, YAML::Emitter& out) {
    out << YAML::BeginSeq;
    for (const E& element : source.*member) WriteMap(element, schema, out);
    out << YAML::EndSeq;
  };
  key.is_set = [member](const T& source) { return !(source.*member).empty(); };
  return key;
}

template <typename T, typename E, typename V>
Key<T> ScalarListKey(std::string name, std::vector<E> T::*member, Codec<V> codec, size_t max,
                     std::string doc) {
  Key<T> key;
  key.name = std::move(name);
  key.doc = std::move(doc);
  key.read = [=](const YAML::Node& value, const std::string& path, T& target, Findings& findings) {
    const auto elements = ReadElements(value, path, 0, max, findings);
    if (!elements) return;
    for (size_t i = 0; i < elements->size(); ++i) {
      const std::string element_path = ElementPath(path, i);
      findings.NotePosition(element_path, PositionOf((*elements)[i]));
      if (auto read = ReadScalar((*elements)[i], element_path, codec, findings)) {
        (target.*member).push_back(static_cast<E>(*std::move(read)));
      }
    }
  };
  key.write = [member, codec](const T& source, YAML::Emitter& out) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const E& element : source.*member) out << codec.format(static_cast<V>(element));
    out << YAML::EndSeq;
  };
  key.is_set = [member](const T& source) { return !(source.*member).empty(); };
  return key;
}

}  // namespace latentd

#endif  // LATENTD_CONFIG_KEY_H_
