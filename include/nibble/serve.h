// A server for models: the HTTP APIs of OpenAI and Ollama.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct ServeOptions {
  struct Named {
    std::string name, path;  // path: GGUF file, Hugging Face directory or org/name
  };
  std::vector<Named> models;  // at least one; the first answers where no name is given
  std::string host = "127.0.0.1";
  int port = 8080;      // 0: any that is free
  std::string api_key;  // empty: none is asked for
  /// Without a key and on a loopback address: by which names, beside those of this machine,
  /// requests may ask. A web page could give its own name this machine's address, and use the
  /// server from the browser that shows it (DNS rebinding).
  std::vector<std::string> allowed_hosts = {};
  int parallel = 4;              // sequences that a model advances together
  std::size_t queue = 64;        // requests that wait for each model; more get 503
  std::uint32_t context = 4096;  // tokens of a sequence, at most
  std::uint64_t memory = 0;      // bytes for weights and caches of loaded models; 0: no limit
  std::size_t body = 8u << 20;   // bytes of a request
  int request_seconds = 600;     // from the arrival of a request to the end of its answer
  int threads = 0;               // 0: one per core
  bool exact = false;            // activations in float32
  std::string cache = "";        // type of keys and values; empty: f16, exact f32
  std::string packed = "";       // directory of packed weights, to begin at once; empty: none
  bool lookup = false;  // guess tokens from what stood there before; answers stay as they are
};

class Server {
 public:
  /// Loads the first model and listens. Errors: a model that cannot be read, a port in use.
  static Result<std::unique_ptr<Server>> start(const ServeOptions& options,
                                               Progress& progress = no_progress());
  ~Server();  // ends what is under way

  int port() const;
  /// From now on new requests get 503.
  void drain();
  /// Nothing is under way.
  bool idle() const;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nibble
