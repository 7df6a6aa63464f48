// What a kernel file must not do: bring functions of std:: along. Read by isa_symbols.sh only.
#include <vector>

template class std::vector<int>;  // all of it, whatever the compiler would inline
