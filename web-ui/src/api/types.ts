// Short names for the API's shapes.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Agent = Schemas["Agent"];
export type AgentMistake = Schemas["AgentMistake"];
export type AdminState = Schemas["AdminState"];
export type ApiRole = Schemas["ApiRole"];
export type ApiTokenInfo = Schemas["ApiTokenInfo"];
export type Applied = Schemas["Applied"];
export type Attention = Schemas["Attention"];
export type AttentionItem = Schemas["AttentionItem"];
export type AuditRow = Schemas["AuditRow"];
export type Backend = Schemas["Backend"];
export type BackendSeen = Schemas["BackendSeen"];
export type BackendState = Schemas["BackendState"];
export type Certificate = Schemas["Certificate"];
export type Client = Schemas["Client"];
export type ChainLink = Schemas["ChainLink"];
export type Commit = Schemas["Commit"];
export type Counted = Schemas["Counted"];
export type Difference = Schemas["Difference"];
export type FleetDocument = Schemas["Document"];
export type JoinTokenInfo = Schemas["JoinTokenInfo"];
export type JoinTokenRequest = Schemas["JoinTokenRequest"];
export type ListedBackend = Schemas["ListedBackend"];
export type Listener = Schemas["Listener"];
export type ListenerSeen = Schemas["ListenerSeen"];
export type Measure = Schemas["Measure"];
export type NewJoinToken = Schemas["NewJoinToken"];
export type Policy = Schemas["Policy"];
export type Pool = Schemas["Pool"];
export type PoolSeen = Schemas["PoolSeen"];
export type RevisionDocument = Schemas["RevisionDocument"];
export type RevisionInfo = Schemas["RevisionInfo"];
export type Role = Schemas["Role"];
export type Saying = Schemas["Saying"];
export type Series = Schemas["Series"];
export type Session = Schemas["Session"];
export type Severity = Schemas["Severity"];
export type Status = Schemas["Status"];
export type Subject = Schemas["Subject"];
export type Top = Schemas["Top"];
export type Topology = Schemas["Topology"];
export type TopologyListener = Schemas["TopologyListener"];
export type TopologyPool = Schemas["TopologyPool"];
export type UploadCommit = Schemas["UploadCommit"];
export type Window = Schemas["Window"];

/** A figure over the last hour at most, oldest first; null = nothing known then. */
export type Points = (number | null)[];
