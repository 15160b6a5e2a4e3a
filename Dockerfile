# k24_rllib's commands in a container; an argument is a command of `rllib`:
#   docker build -t k24_rllib . && docker run --rm -v "$PWD/results:/results" k24_rllib train -f tuned_examples/k24_spread.yaml --storage-path /results
FROM python:3.11-slim

# A C compiler, for the compiled kernels; without one PyTorch does the same, slower.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

WORKDIR /k24_rllib
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .

ENTRYPOINT ["rllib"]
CMD ["--help"]
