# cmake -DINPUT=... -DOUTPUT=... -DNAME=kName -P EmbedFile.cmake: a header with the bytes of a file as an array.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "// Generated. The bytes of a file.\n#pragma once\n\nconstexpr unsigned char ${NAME}[] = {\n${bytes}\n};\n")
