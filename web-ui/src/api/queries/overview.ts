import { queryOptions } from "@tanstack/react-query";
import { answer, api } from "../client";

export const statusQuery = queryOptions({
  queryKey: ["status"],
  queryFn: ({ signal }) => answer(api.GET("/api/v1/status", { signal })),
});

export const topologyQuery = queryOptions({
  queryKey: ["topology"],
  queryFn: ({ signal }) => answer(api.GET("/api/v1/topology", { signal })),
});

export const attentionQuery = queryOptions({
  queryKey: ["attention"],
  queryFn: ({ signal }) => answer(api.GET("/api/v1/attention", { signal })),
});
