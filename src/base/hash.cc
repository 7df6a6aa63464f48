#include "base/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

namespace nibble {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(const char* algorithm) : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context, EVP_get_digestbyname(algorithm), nullptr);
}

Digest::~Digest() = default;

void Digest::update(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

std::string Digest::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, digest, &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

Sha256::Sha256() : Digest("SHA256") {}
Sha1::Sha1() : Digest("SHA1") {}

}  // namespace nibble
