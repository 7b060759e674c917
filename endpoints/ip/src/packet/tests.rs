mod addresses;
mod corpus;
mod random;
mod vectors;
