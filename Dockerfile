# An exported model behind the server, without torch:
#   docker build --build-arg MODEL=exported/demo --tag ifaformer .
#   docker run --stop-timeout 90 --publish 8000:8000 --env IFAFORMER_TOKEN=secret ifaformer
FROM python:3.12-slim
WORKDIR /app
COPY constraints.txt .
RUN pip install --no-cache-dir --constraint constraints.txt onnxruntime numpy tokenizers regex pillow \
    fastapi uvicorn python-multipart prometheus-client
COPY processing processing
COPY hub_card hub_card
ARG MODEL
COPY ${MODEL} /model
# The server runs as a user who owns nothing of it.
RUN chmod -R a+rX /app /model
ENV MODEL=/model HOST=0.0.0.0 PORT=8000
EXPOSE 8000
USER nobody
HEALTHCHECK CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=5)"]
CMD ["python", "-m", "hub_card.serving"]
