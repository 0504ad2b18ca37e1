// verify.mjs TOKEN JWKS_URL ISSUER AUDIENCE: says `valid`, or jose's code for what is wrong.
import { createRemoteJWKSet, jwtVerify } from 'jose';

const [token, jwks, issuer, audience] = process.argv.slice(2);
try {
  await jwtVerify(token, createRemoteJWKSet(new URL(jwks)), { issuer, audience, algorithms: ['RS256'] });
  console.log('valid');
} catch (error) {
  console.log(error.code);
}
