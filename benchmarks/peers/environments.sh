#!/bin/sh
# Makes the environments of the programs that this project is measured beside, each in a folder of
# its own, from PyPI:
#
#     sh benchmarks/peers/environments.sh FOLDER [transformers] [llamacpp] [aiperf] [guidellm]
#
# Without names, it makes all of them. llama.cpp is built from the sources that its Python package
# brings, for this processor; that takes a compiler, CMake 3.21 or newer, and some minutes. The
# package and the server use the same build. An environment that is there already is made anew.
set -eu

FOLDER=$1
shift
PYTHON=${PYTHON:-python3}
TORCH=torch==2.13.0 # spelled exactly so, an index with a CPU build of it is content with that
LLAMA=0.3.36

make_transformers() {
	"$1/bin/pip" install $TORCH
	"$1/bin/pip" install 'transformers[serving]==5.24.0'
}

make_llamacpp() {
	"$1/bin/pip" download --no-deps --no-binary llama-cpp-python --dest "$1" llama-cpp-python==$LLAMA
	mkdir "$1/src"
	tar -xzf "$1/llama_cpp_python-$LLAMA.tar.gz" -C "$1/src" --strip-components 1
	cmake -S "$1/src/vendor/llama.cpp" -B "$1/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
		-DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
		-DLLAMA_USE_PREBUILT_UI=OFF
	cmake --build "$1/build" --target llama-server --parallel 2
	CMAKE_ARGS=-DLLAMA_BUILD=OFF "$1/bin/pip" install "$1/src" gguf==0.19.0
}

make_aiperf() {
	"$1/bin/pip" install aiperf==0.13.0
}

make_guidellm() {
	"$1/bin/pip" install $TORCH
	"$1/bin/pip" install guidellm==0.8.1
}

for name in ${*:-transformers llamacpp aiperf guidellm}; do
	rm -rf "${FOLDER:?}/$name"
	"$PYTHON" -m venv "$FOLDER/$name"
	"make_$name" "$FOLDER/$name"
done
