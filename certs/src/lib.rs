//! Who is who: authority, enrolment by CSR, mutual TLS, revocation, roster.
