# docker build -t mmsdpt . && docker run --rm -it mmsdpt make demo
# With a GPU: docker run --gpus all ...; PyTorch brings its own CUDA.
FROM python:3.11-slim

# OpenCV's libraries, and a compiler for packages that come as source.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git libgl1 libglib2.0-0 make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mmsdpt
COPY . .
# PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple"
# takes PyTorch's smaller wheels without CUDA.
ARG PIP_ARGS=""
RUN make install PIP_ARGS="$PIP_ARGS"
ENV PATH="/mmsdpt/.venv/bin:$PATH"
CMD ["bash"]
