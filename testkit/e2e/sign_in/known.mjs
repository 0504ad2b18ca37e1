// What both sides of a sign-in test know beforehand.

/** The address of a client on this machine; nobody listens there, whatever stops at it reads the query. */
export const CALLBACK = 'http://127.0.0.1:7777/callback';
export const SCOPES = ['mcp', 'admin', 'offline_access'];

/** Clients that an administrator registered: one for each way to say who one is. The conformance suite never sends a secret to a
 * server that has clients without one. */
export const REGISTERED = [
  { client_id: 'tour-public', client_name: 'Tour, public', redirect_uris: [CALLBACK], token_endpoint_auth_method: 'none' },
  { client_id: 'tour-secret', client_name: 'Tour, with a secret', redirect_uris: [CALLBACK], token_endpoint_auth_method: 'client_secret_basic', client_secret: 'tour-secret-0123456789abcdef0123456789' },
  { client_id: 'tour-post', client_name: 'Tour, with a secret in its body', redirect_uris: [CALLBACK], token_endpoint_auth_method: 'client_secret_post', client_secret: 'tour-post-0123456789abcdef0123456789' },
];
// A gateway makes the secrets of its clients itself; the reference is told which.
const told = JSON.parse(process.env.CLIENT_SECRETS ?? '{}');
for (const client of REGISTERED) if (told[client.client_id]) client.client_secret = told[client.client_id];
export const secrets = () => Object.fromEntries(REGISTERED.filter(client => client.client_secret).map(client => [client.client_id, client.client_secret]));
export const registered = id => REGISTERED.find(client => client.client_id === id);
