// A real HTTP server for one test, which plays what the test says.

import { createServer } from "node:http";

/**
 * Serve by `answer` and run `use` with the address.
 * @param {(response: import("node:http").ServerResponse, request: import("node:http").IncomingMessage) => void} answer
 * @param {(base: string) => Promise<void>} use
 */
export async function serving(answer, use) {
  const server = createServer((request, response) => answer(response, request));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  try {
    await use(`http://127.0.0.1:${port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
