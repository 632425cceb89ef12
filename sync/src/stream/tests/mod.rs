mod delta;
mod pair;
mod table;
