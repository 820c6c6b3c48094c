# syntax=docker/dockerfile:1

FROM node:24-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY bin bin
COPY scripts scripts
COPY src src
RUN npm run build
RUN npm prune --omit=dev --omit=optional
# Empty directories, to be copied with an owner: the image itself runs nothing as root.
RUN mkdir data .compile-cache

FROM node:24-trixie-slim
LABEL org.opencontainers.image.title="Dripgate" \
      org.opencontainers.image.description="A reverse-proxy rate-limiting gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
ENV NODE_ENV=production \
    NODE_COMPILE_CACHE=/app/.compile-cache \
    DRIPGATE_CONFIG=config/gateway.yaml
COPY package.json LICENSE ./
COPY config config
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build --chown=node:node /app/data data
COPY --from=build --chown=node:node /app/.compile-cache .compile-cache
USER node
# Loads all code once, so that the compile cache is part of the image.
RUN node dist/main.js version

# Mount your configuration as /app/config/gateway.yaml, or set DRIPGATE_CONFIG: the health check
# reads the same one. The admin listener is only reachable from outside if `admin.listen` says so.
VOLUME /app/data
EXPOSE 8080 7131
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["node", "dist/main.js", "health"]
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve"]
