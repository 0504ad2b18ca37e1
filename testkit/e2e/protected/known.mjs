// What the protected servers, their authorization server and the steps know beforehand.
import { createHash } from 'node:crypto';

/** Scopes: without the first nobody comes in, one tool wants the second too. */
export const READ = 'notes.read', WRITE = 'notes.write';

/** How tokens for a server are: signed, and for it alone. */
export const resourceServer = resource => ({ scope: `${READ} ${WRITE}`, audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } });

const SECRET = 'gateway-secret-0123456789abcdef0123456789';

/** Where the gateway has this authorization server send browsers back. */
const redirect = (gateway, issuer) => `${gateway}/connections/callback/${createHash('sha256').update(issuer).digest().subarray(0, 16).toString('base64url')}`;

/** The gateway as a client that an administrator of the authorization server registered: by each way to prove who it is. */
export const CLIENTS = (gateway, issuer = '') => [
  { client_id: 'gateway-code', token_endpoint_auth_method: 'client_secret_basic', client_secret: SECRET, redirect_uris: [redirect(gateway, issuer)], response_types: ['code'], grant_types: ['authorization_code', 'refresh_token'] },

  { client_id: 'gateway-basic', token_endpoint_auth_method: 'client_secret_basic', client_secret: SECRET },
  { client_id: 'gateway-post', token_endpoint_auth_method: 'client_secret_post', client_secret: SECRET },
  { client_id: 'gateway-key', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256', jwks_uri: `${gateway}/oauth/keys` },
].map(client => ({ scope: `offline_access ${READ} ${WRITE}`, redirect_uris: [], response_types: [], grant_types: ['client_credentials', TOKEN_EXCHANGE, JWT_BEARER], ...client }));

/** What the gateway calls the ways to prove who it is, and what its requests show. */
export const WAYS = { client_secret_basic: 'basic', client_secret_post: 'post', private_key_jwt: 'private_key_jwt' };
export const wayOf = client => WAYS[CLIENTS('').find(({ client_id }) => client_id === client).token_endpoint_auth_method];
export const secretOf = client => CLIENTS('').find(({ client_id }) => client_id === client)?.client_secret;

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
