// What the gateway signed, shown again or for something else: the authorization server takes nothing of it. What it took before is
// what its own requests held, as it tells them under /_test/asked.
import { deepStrictEqual as same, ok } from 'node:assert';
import { JWT_BEARER, TOKEN_EXCHANGE, secretOf } from './known.mjs';

const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const PROOF = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** Asks for a token; gives the error, or throws when there is none. Why it was refused only the authorization server itself tells. */
async function refusal(issuer, form) {
  const response = await fetch(`${issuer}/token`, { method: 'POST', body: new URLSearchParams(form) });
  const { error, access_token } = await response.json();
  ok(!access_token, `it was taken: ${JSON.stringify(form)}`);
  const { why } = await (await fetch(`${issuer}/_test/refused`)).json();
  return { error, why };
}

/** `asked` holds, by client and grant type, what was asked last and given: of gateway-key by its keys, of gateway-post for a person. */
export async function takesNothingTwice(issuer, asked) {
  const { client_assertion: proof } = asked['gateway-key'].client_credentials;
  const { assertion } = asked['gateway-post'][JWT_BEARER], { subject_token: word } = asked['gateway-post'][TOKEN_EXCHANGE];
  ok(proof && assertion && word, 'the gateway has shown each of them');
  const own = { grant_type: 'client_credentials', client_assertion_type: PROOF };
  const as = client => ({ client_id: client, client_secret: secretOf(client) });
  const vouched = { grant_type: JWT_BEARER }, exchanged = { grant_type: TOKEN_EXCHANGE, subject_token_type: JWT };
  for (const [name, form, error, why] of [
    ['a proof of the client, again', { ...own, client_assertion: proof }, 'invalid_client', /only be used once/],
    ['the proof of another client', { ...own, client_id: 'gateway-post', client_assertion: proof }, 'invalid_request', /client_id mismatch/],
    ['a word as a proof', { ...own, client_id: 'gateway-key', client_assertion: word }, 'invalid_request', /client_id mismatch/],
    ['an assertion, again', { ...vouched, ...as('gateway-post'), assertion }, 'invalid_grant', /shown before/],
    ['an assertion for another client', { ...vouched, ...as('gateway-basic'), assertion }, 'invalid_grant', /another client/],
    ['a word as an assertion', { ...vouched, ...as('gateway-post'), assertion: word }, 'invalid_grant', /"typ"/],
    ['an assertion as a word', { ...exchanged, ...as('gateway-post'), subject_token: assertion }, 'invalid_grant', /"typ"/],
    ['a proof as a word', { ...exchanged, ...as('gateway-post'), subject_token: proof }, 'invalid_grant', /"typ"/],
  ]) {
    const said = await refusal(issuer, form);
    same([name, said.error], [name, error]);
    ok(why.test(said.why), `${name}: ${said.why}`);
  }
}
