// What a program on the TypeScript SDK tells it about itself, and what it keeps between two sign-ins: a desktop program, whose person's
// browser goes where `walk` goes.
import { randomUUID } from 'node:crypto';
import { CALLBACK } from '../sign_in/known.mjs';

export const program = (kept, walk, method = 'none') => ({
  redirectUrl: CALLBACK,
  clientMetadata: { client_name: 'Tour', redirect_uris: [CALLBACK], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: method },
  state: () => (kept.state = randomUUID()),
  clientInformation: () => kept.client,
  saveClientInformation: client => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: tokens => { kept.tokens = tokens; },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: verifier => { kept.verifier = verifier; },
  discoveryState: () => kept.discovery,
  saveDiscoveryState: discovery => { kept.discovery = discovery; },
  redirectToAuthorization: walk,
});
