// Addresses and networks of clients, as text.

export function isIpv6(address: string): boolean {
  return address.includes(":");
}

/** The network to deny one client by: `/32`, or the `/64` it is counted under. */
export function networkOfClient(client: string): string {
  if (client.includes("/")) return client;
  return isIpv6(client) ? `${client}/64` : `${client}/32`;
}

/** The end of a UUID, which is random where its beginning is the time. */
export function shortId(id: string): string {
  return id.length > 8 ? id.slice(-8) : id;
}
